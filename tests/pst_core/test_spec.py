"""A spec says what it wants, or is refused with the field that is wrong."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from pst_core.dataset_spec import Splits
from pst_core.recipes import Hyperparameters
from pst_core.spec import METRICS, CompressionSpec, Task

MINIMAL: dict[str, Any] = {"model": "pkg:m", "dataset": "pkg:d", "sparsity": 0.9}


def make(**changes: Any) -> CompressionSpec:
    return CompressionSpec.model_validate(MINIMAL | changes)


def wrong_fields(**changes: Any) -> set[str]:
    """The dotted fields that a spec is refused for."""
    with pytest.raises(ValidationError) as caught:
        make(**changes)
    return {".".join(str(part) for part in item["loc"]) for item in caught.value.errors()}


def test_a_bare_dataset_reference_stands_for_its_defaults() -> None:
    assert make().dataset == make(dataset={"ref": "pkg:d"}).dataset


def test_columns_are_called_as_their_roles_unless_told_otherwise() -> None:
    spec = make(dataset={"ref": "pkg:d", "columns": {"label": "stars"}})
    assert spec.columns() == {"text": "text", "label": "stars"}


def test_a_column_of_another_task_is_refused_with_those_there_are() -> None:
    dataset = {"ref": "pkg:d", "columns": {"prompt": "question"}}
    with pytest.raises(ValidationError, match="no column prompt: it has text, label, pair"):
        make(dataset=dataset)


@pytest.mark.parametrize(
    ("reference", "task", "metric", "columns"),
    [
        ("hub:glue/sst2", "text-classification", "accuracy", {"text": "sentence"}),
        ("nyu-mll/glue/cola@main", "text-classification", "matthews", {"text": "sentence"}),
        ("glue/stsb", "text-regression", "pearson", {"text": "sentence1", "pair": "sentence2"}),
        ("glue/mnli", "text-classification", "accuracy", {"text": "premise", "pair": "hypothesis"}),
    ],
)
def test_a_glue_dataset_says_its_task_metric_and_columns(
    reference: str, task: str, metric: str, columns: dict[str, str]
) -> None:
    spec = make(dataset=reference)
    assert (spec.task, spec.metric) == (task, metric)
    assert spec.columns() == columns | {"label": "label"}


@pytest.mark.parametrize("task", sorted(METRICS))
def test_a_task_measures_all_its_metrics_and_is_judged_by_the_first(task: Task) -> None:
    assert make(task=task).metrics() == METRICS[task]


def test_the_metric_asked_for_is_the_one_that_decides() -> None:
    assert make(metric="f1").metrics() == ("f1", "accuracy", "matthews")


def test_a_metric_of_another_task_is_refused() -> None:
    assert wrong_fields(metric="perplexity") == {"metric"}


def test_a_pattern_says_its_sparsity() -> None:
    assert make(pattern="2:4", sparsity=None).sparsity == 0.5


def test_a_sparsity_that_is_not_the_patterns_is_refused() -> None:
    assert wrong_fields(pattern="4:8") == {"sparsity"}


def test_a_pattern_over_all_matrices_together_is_refused() -> None:
    assert wrong_fields(pattern="2:4", sparsity=None, scope="global") == {"scope"}


def test_wanda_over_all_matrices_together_is_refused() -> None:
    assert wrong_fields(task="causal-lm", method="wanda", scope="global") == {"scope"}


@pytest.mark.parametrize("method", ["dense", "lora"])
def test_what_prunes_nothing_has_no_pattern_and_no_scope(method: str) -> None:
    changes = {"method": method, "sparsity": None}
    assert wrong_fields(**changes, pattern="2:4") == {"pattern"}
    assert wrong_fields(**changes, scope="global") == {"scope"}


def test_dense_training_leaves_no_layer_out() -> None:
    assert wrong_fields(method="dense", sparsity=None, exclude=["*.key"]) == {"exclude"}


def test_wanda_is_refused_where_a_head_has_to_be_trained() -> None:
    assert "method" in wrong_fields(method="wanda")


def test_a_language_task_is_not_distilled() -> None:
    changes = {"task": "causal-lm", "baseline": "train"}
    assert make(**changes).resolved_hyperparameters().distillation == 0
    asked = {"hyperparameters": {"distillation": 0.5}}
    assert wrong_fields(**changes, **asked) == {"hyperparameters"}


def test_glue_says_nothing_of_another_tasks_columns() -> None:
    spec = make(dataset="file:glue/sst2", task="data-to-text")
    assert spec.columns() == {"prompt": "prompt", "completion": "completion"}


@pytest.mark.parametrize("method", ["magnitude", "movement", "random", "wanda"])
def test_every_pruning_method_needs_a_sparsity(method: str) -> None:
    assert wrong_fields(task="causal-lm", method=method, sparsity=None) == {"sparsity"}


def test_distillation_without_a_baseline_is_refused() -> None:
    assert wrong_fields(hyperparameters={"distillation": 0.5}) == {"hyperparameters"}


def test_a_preset_distils_only_where_there_is_a_baseline() -> None:
    shares = [
        make(baseline=baseline).resolved_hyperparameters().distillation
        for baseline in ("none", "train")
    ]
    assert shares[0] == 0 < shares[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"baseline": "none"},
        {"baseline": "train", "hyperparameters": {"distillation": 0}},
        {"baseline": "train", "task": "causal-lm"},
    ],
)
def test_a_preset_splices_only_where_it_distils(changes: dict[str, object]) -> None:
    assert make(baseline="train").resolved_hyperparameters().splices > 0
    assert make(**changes).resolved_hyperparameters().splices == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"baseline": "none"},
        {"baseline": "train", "preset": "paper"},
        {"baseline": "train", "task": "causal-lm"},
    ],
)
def test_splices_that_nobody_answers_are_refused(changes: dict[str, object]) -> None:
    assert wrong_fields(**changes, hyperparameters={"splices": 1}) == {"hyperparameters"}


@pytest.mark.parametrize(
    "changes",
    [
        {"baseline": "none"},
        {"baseline": "train", "hyperparameters": {"distillation": 0}},
        {"baseline": "train", "task": "causal-lm"},
    ],
)
def test_a_rank_for_learning_from_a_baseline_is_the_default_one_without(
    changes: dict[str, object],
) -> None:
    assert make(baseline="train").resolved_hyperparameters().rank == 32
    assert make(**changes).resolved_hyperparameters().rank == 8


def test_a_rank_that_was_asked_for_stays() -> None:
    spec = make(baseline="none", hyperparameters={"rank": 16})
    assert spec.resolved_hyperparameters().rank == 16


def test_what_was_accepted_before_there_were_sets_of_splices_has_one() -> None:
    spec = make(baseline="train")
    accepted = spec.resolved_hyperparameters().model_dump(exclude={"splice_sets"})
    then = spec.trained_by(accepted).resolved_hyperparameters()
    assert (then.splices, then.splice_sets) == (1, 1)


def test_what_was_accepted_before_there_were_splices_is_trained_without() -> None:
    spec = make(baseline="train")
    accepted = spec.resolved_hyperparameters().model_dump(exclude={"splices"}) | {"dropout": None}
    then = spec.trained_by(accepted).resolved_hyperparameters()
    assert (then.splices, then.dropout, then.distillation) == (0, None, accepted["distillation"])


@pytest.mark.parametrize("changes", [{"patience": 2}, {"keep_best": True}])
def test_stopping_early_and_keeping_the_best_need_validations(changes: dict[str, object]) -> None:
    field = next(iter(changes))
    assert wrong_fields(hyperparameters=changes) == {f"hyperparameters.{field}"}


def test_accumulation_divides_the_batch() -> None:
    changes = {"batch_size": 32, "accumulation": 5}
    assert wrong_fields(hyperparameters=changes) == {"hyperparameters.accumulation"}


def test_the_preset_paper_is_the_papers() -> None:
    paper = {
        "rank": 8, "score_rank": 8, "alpha1": 1.0, "alpha2": 1.0, "beta": 1.0,
        "initial_warmup": 0.1, "final_hold": 0.3, "weight_decay": 0.0,
    }  # fmt: skip
    spec = make(preset="paper")
    assert paper.items() <= spec.resolved_hyperparameters().model_dump().items()


def test_the_released_scripts_train_nothing_but_the_factors() -> None:
    released = make(preset="paper-released").resolved_hyperparameters()
    assert released == Hyperparameters(train_head=False)


def test_pst_publishes_packed_by_default() -> None:
    assert make().formats == ("packed",)


def test_dense_publishes_dense_by_default() -> None:
    assert make(method="dense", sparsity=None).formats == ("dense",)


def test_a_dense_spec_needs_no_sparsity() -> None:
    spec = CompressionSpec.model_validate({"model": "m", "dataset": "d", "method": "dense"})
    assert spec.sparsity is None


def test_a_pst_spec_without_sparsity_is_refused() -> None:
    assert wrong_fields(sparsity=None) == {"sparsity"}


def test_a_dense_spec_with_sparsity_is_refused() -> None:
    assert wrong_fields(method="dense") == {"sparsity"}


def test_a_drop_without_a_baseline_to_drop_from_is_refused() -> None:
    assert make(baseline="train", max_drop=1).max_drop == 1
    with pytest.raises(ValidationError, match=r"max_drop\n.*ask for baseline: train"):
        make(max_drop=1)
    with pytest.raises(ValidationError, match=r"max_drop\n.*leave max_drop out"):
        make(method="dense", sparsity=None, max_drop=1)


@pytest.mark.parametrize("limit", [-0.1, float("inf"), "much"])
def test_a_drop_is_a_number_of_0_at_least(limit: object) -> None:
    assert wrong_fields(baseline="train", max_drop=limit) == {"max_drop"}


def test_a_dense_spec_with_a_baseline_is_refused() -> None:
    assert wrong_fields(method="dense", sparsity=None, baseline="train") == {"baseline"}


def test_a_dense_spec_that_packs_is_refused() -> None:
    assert wrong_fields(method="dense", sparsity=None, formats=["packed"]) == {"formats"}


@pytest.mark.parametrize("sparsity", [0, 1, -0.1, 1.5, float("nan"), float("inf"), "most"])
def test_a_sparsity_outside_0_to_1_is_refused(sparsity: object) -> None:
    assert wrong_fields(sparsity=sparsity) == {"sparsity"}


@pytest.mark.parametrize("field", ["colour", "Sparsity"])
def test_an_unknown_field_is_refused(field: str) -> None:
    assert wrong_fields(**{field: 1}) == {field}


def test_an_unknown_hyperparameter_is_refused_with_its_path() -> None:
    assert wrong_fields(hyperparameters={"lr": 1}) == {"hyperparameters.lr"}


@pytest.mark.parametrize("formats", [[], ["packed", "packed"], ["zip"], "packed", None])
def test_formats_that_name_none_one_twice_or_an_unknown_one_are_refused(formats: object) -> None:
    assert {field.partition(".")[0] for field in wrong_fields(formats=formats)} == {"formats"}


@pytest.mark.parametrize("field", ["model", "dataset"])
@pytest.mark.parametrize(
    "reference", ["", "s3:bucket/x", "http://host/x", "a\0b", "x" * 1025, "\ud800"]
)
def test_a_malformed_reference_is_refused(field: str, reference: str) -> None:
    expected = {"model": "model", "dataset": "dataset.ref"}[field]
    assert wrong_fields(**{field: reference}) == {expected}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha1", -1), ("batch_size", 0), ("batch_size", 1.5), ("beta", float("inf")),
        ("epochs", 0), ("final_hold", 1), ("initial_warmup", -0.1), ("learning_rate", 0),
        ("learning_rate_warmup", 1), ("max_gradient_norm", 0), ("max_length", 3),
        ("precision", "float16"), ("rank", 0), ("score_rank", 2000), ("weight_decay", 2),
    ],
)  # fmt: skip
def test_a_hyperparameter_out_of_its_range_is_refused(name: str, value: object) -> None:
    assert wrong_fields(hyperparameters={name: value}) == {f"hyperparameters.{name}"}


def test_a_schedule_that_leaves_no_step_to_rise_is_refused() -> None:
    changes = {"initial_warmup": 0.5, "final_hold": 0.5}
    assert wrong_fields(hyperparameters=changes) == {"hyperparameters.final_hold"}


def test_a_hold_that_leaves_no_room_after_the_default_warmup_is_refused() -> None:
    assert wrong_fields(hyperparameters={"final_hold": 0.9}) == {"hyperparameters.final_hold"}


@pytest.mark.parametrize("size", [0, -1, 1.0, 0.0, True, "10", float("nan")])
def test_a_split_size_is_a_number_of_rows_or_a_share_below_1(size: object) -> None:
    with pytest.raises(ValidationError):
        Splits.model_validate({"train": size})


def test_a_split_size_keeps_its_kind() -> None:
    splits = Splits.model_validate({"train": 0.5, "test": 500})
    assert (splits.train, splits.test) == (0.5, 500)
    assert isinstance(splits.test, int)


def test_an_integer_may_be_written_as_json_may_write_one() -> None:
    seed = make(seed=7.0).seed
    assert (seed, type(seed)) == (7, int)


@pytest.mark.parametrize("seed", [-1, 2**31, 0.5, True, "7"])
def test_a_seed_is_a_whole_number_of_31_bits(seed: object) -> None:
    assert wrong_fields(seed=seed) == {"seed"}


@pytest.mark.parametrize("seconds", [0, 30 * 24 * 3600 + 1])
def test_a_wall_limit_beyond_a_month_or_below_a_second_is_refused(seconds: int) -> None:
    assert wrong_fields(limits={"wall_seconds": seconds}) == {"limits.wall_seconds"}


def test_resolved_hyperparameters_are_the_preset_with_the_specs_changes() -> None:
    changes = {"rank": 3, "final_hold": 0.2}
    resolved = make(preset="paper", hyperparameters=changes).resolved_hyperparameters()
    assert resolved.model_dump() == Hyperparameters().model_dump() | changes


def test_a_spec_comes_back_from_its_json() -> None:
    spec = make(dataset={"ref": "d", "splits": {"test": 7}}, hyperparameters={"rank": 3}, seed=5)
    assert CompressionSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(("field", "value"), [("seed", 1), ("sparsity", 0.5)])
def test_a_spec_does_not_change_once_made(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(make(), field, value)


def test_spec_references_report_and_events_load_without_torch() -> None:
    code = (
        "import sys, pst_core.spec, pst_core.references, pst_core.report, pst_core.events\n"
        "sys.exit(sorted({'torch', 'transformers', 'numpy'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_warmup_that_leaves_no_room_before_the_default_hold_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be below 1"):
        Hyperparameters(initial_warmup=0.8)
