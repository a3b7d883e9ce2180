"""One stage: what it does to dropout and curve, what it tells of its progress, what it refuses."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from pst_core import bootstrap, stages
from pst_core.batches import Batch, Examples
from pst_core.convert import Converted
from pst_core.errors import InvalidDatasetError
from pst_core.events import EvaluationEvent, Event, ProgressEvent
from pst_core.layers import SparseLinear
from pst_core.prepare import Prepared, Sources, prepare
from pst_core.progress import MAX_POINTS, Curve, Outlook
from pst_core.references import DataSource
from pst_core.report import Cost
from pst_core.spec import Method
from pst_core.stages import (
    Job,
    Trained,
    run_stage,
    set_dropout,
    stage_steps,
    to_be_taught,
)
from pst_core.trainer import Run, StepReport
from tests.pst_core import tiny
from tests.pst_core.selections import Selections

HYPER = {"epochs": 0.5, "batch_size": 16, "rank": 2, "score_rank": 2}
STEPS = 5  # half an epoch of 160 rows
MAIN = Outlook(stage="main", steps_before=0, steps_in_all=STEPS)
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": tiny.classifier,
    "gpt2": tiny.language_model,
    "llama": lambda: tiny.llama(attention_dropout=0.3),
    # As a config.json may have it.
    "llama without": lambda: tiny.llama(attention_dropout=0),
}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("stages")
    sources = tiny.sources(folder)
    return Job(spec=tiny.spec(folder, hyperparameters=HYPER), sources=sources, emit=lambda _: None)


@pytest.fixture(scope="module")
def prepared(job: Job) -> Prepared:
    return prepare(job.spec, job.sources)


@pytest.fixture(scope="module")
def stage(job: Job, prepared: Prepared) -> tuple[PreTrainedModel, Trained]:
    return run_stage(job, prepared, "pst", MAIN)


def changed(job: Job, **changes: object) -> Job:
    spec = tiny.spec(job.sources.model.parent, **{"hyperparameters": HYPER, **changes})
    return replace(job, spec=spec)


def varies(model: PreTrainedModel) -> bool:
    """Whether two forwards in training mode differ."""
    ids = torch.arange(4, 12)[None]
    first, second = (model.train()(input_ids=ids).logits for _ in range(2))
    return not torch.equal(first, second)


@pytest.mark.parametrize("name", MODELS)
def test_a_dropout_of_0_reaches_every_dropout(name: str) -> None:
    model = MODELS[name]()
    set_dropout(model, 0.0)
    assert not varies(model)


@pytest.mark.parametrize("name", MODELS)
def test_a_dropout_above_0_reaches_the_attention(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MODELS[name]()
    set_dropout(model, 0.5)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            # The attention reads its share as a number: nothing else varies now.
            monkeypatch.setattr(module, "forward", lambda x: x)
    assert varies(model)


def test_a_dropout_is_the_same_everywhere() -> None:
    model = tiny.classifier()
    set_dropout(model, 0.25)
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.25}


@pytest.mark.parametrize(("method", "told"), [("pst", [0.2]), ("dense", [])])
def test_the_recipes_dropout_is_that_of_a_model_made_sparse(
    method: Method, told: list[float], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(stages, "set_dropout", lambda _, share: seen.append(share))
    job = changed(job, hyperparameters={**HYPER, "dropout": 0.2})
    run_stage(job, prepare(job.spec, job.sources), method, MAIN)
    assert seen == told


def curve_of(job: Job, count: int) -> tuple[Curve, list[int]]:
    """A curve that was told so many steps, and how many points it had after each."""
    outlook = Outlook(stage="main", steps_before=0, steps_in_all=count)
    curve, lengths = Curve(job.emit, outlook, {}), []
    for step in range(1, count + 1):
        curve.report(
            StepReport(step=step, loss=1 / step, sparsity=0.5, learning_rate=1e-3, step_seconds=0.1)
        )
        lengths.append(len(curve.points))
    return curve, lengths


def test_a_short_curve_has_every_point(job: Job) -> None:
    curve, _ = curve_of(job, MAX_POINTS)
    assert [point.step for point in curve.points] == list(range(1, MAX_POINTS + 1))


@pytest.mark.parametrize("count", [MAX_POINTS + 1, 3 * MAX_POINTS, 3 * MAX_POINTS + 1])
def test_a_long_curve_is_thinned_and_keeps_its_ends(count: int, job: Job) -> None:
    curve, lengths = curve_of(job, count)
    found = [point.step for point in curve.points]
    assert max(lengths) <= MAX_POINTS
    assert min(lengths[MAX_POINTS:]) >= MAX_POINTS // 2
    assert (found[0], found[-1]) == (1, count)
    assert found == sorted(set(found))
    assert all(point.loss == 1 / point.step for point in curve.points)


def test_the_first_look_at_the_masks_has_nothing_to_compare_with(
    stage: tuple[PreTrainedModel, Trained],
) -> None:
    curve = stage[1].curve
    assert len(curve) == STEPS
    assert {point.mask_churn for point in curve} == {None}


def test_every_tenth_point_says_how_much_of_the_masks_changed(job: Job) -> None:
    job = changed(job, hyperparameters={**HYPER, "epochs": 1.5})
    outlook = Outlook(stage="main", steps_before=0, steps_in_all=15)
    _, trained = run_stage(job, prepare(job.spec, job.sources), "pst", outlook)
    looks = [point.step for point in trained.curve if point.mask_churn is not None]
    # From nothing pruned to nearly half of all entries.
    assert looks == [11]
    assert trained.curve[10].mask_churn == pytest.approx(trained.curve[10].sparsity, abs=0.05)


@pytest.mark.parametrize(("epochs", "steps"), [(0.01, 1), (0.5, 5), (0.55, 6), (3, 30)])
def test_a_stage_has_the_steps_of_its_epochs_rounded_up(
    epochs: float, steps: int, job: Job
) -> None:
    job = changed(job, hyperparameters={**HYPER, "epochs": epochs})
    assert stage_steps(prepare(job.spec, job.sources, splits=("train",)), "pst") == steps


def test_a_one_shot_method_has_no_steps(prepared: Prepared) -> None:
    assert stage_steps(prepared, "wanda") == 0


def test_the_progress_counts_on_from_the_stage_before(job: Job, prepared: Prepared) -> None:
    events: list[Event] = []
    outlook = Outlook(stage="main", steps_before=7, steps_in_all=12)
    run_stage(replace(job, emit=events.append), prepared, "pst", outlook)
    progress = [event for event in events if isinstance(event, ProgressEvent)]
    assert [event.step for event in progress] == [8, 9, 10, 11, 12]
    assert {(event.stage, event.total_steps) for event in progress} == {("main", 12)}
    assert progress[-1].eta_seconds == 0
    assert all(event.eta_seconds for event in progress[:-1])


def test_the_evaluations_are_told_with_their_stage(job: Job, prepared: Prepared) -> None:
    events: list[Event] = []
    outlook = Outlook(stage="baseline", steps_before=0, steps_in_all=10)
    _, trained = run_stage(replace(job, emit=events.append), prepared, "dense", outlook)
    told = [event for event in events if isinstance(event, EvaluationEvent)]
    assert [(event.stage, event.split) for event in told] == [
        ("baseline", "validation"),
        ("baseline", "test"),
    ]
    assert told[1].value == trained.evaluation.test.value


def test_a_validation_selects_each_mask_once_and_resamples_nothing(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = changed(job, hyperparameters={**HYPER, "validations": 1, "batch_size": 8})
    prepared = prepare(job.spec, job.sources)
    model, sparse = tiny.pst_classifier(prepared.task.hyper)
    sparse.set_sparsity(0.5)
    expected = prepared.score(model, "validation").scores.value
    validate = stages._validator(prepared, model, sparse)
    selections = Selections(monkeypatch)
    monkeypatch.delattr(bootstrap, "_resamples")
    # Thirty rows are more than one batch.
    assert validate() == expected
    assert selections.of(sparse.layers.values()) == [1] * len(sparse.layers)


def test_of_two_models_the_one_with_fewer_errors_validates_higher(job: Job, tmp_path: Path) -> None:
    data = tiny.save_csv(tmp_path / "toy.csv", [(text, "3") for text, _ in tiny.toy_rows(100)])
    job = changed(
        job,
        task="text-regression",
        metric="mse",
        dataset={"ref": f"file:{data}"},
        hyperparameters={**HYPER, "validations": 1},
    )
    prepared = prepare(job.spec, replace(job.sources, dataset=DataSource(path=data)))
    model = prepared.task.load_model(job.sources.model, (), prepared.tokenizer, seed=0)
    validate = stages._validator(prepared, model, Converted({}))
    bias = model.get_parameter("classifier.bias")
    scores = []
    for number in (-3.0, 3.0):
        nn.init.constant_(bias, number)
        scores.append(validate())
    assert scores[0] < scores[1] <= 0


def test_validations_need_rows_to_score(job: Job) -> None:
    job = changed(job, hyperparameters={**HYPER, "validations": 1})
    prepared = prepare(job.spec, job.sources)
    without = {**prepared.examples, "validation": Examples.collect([])}
    with pytest.raises(InvalidDatasetError, match="no validation rows") as caught:
        run_stage(job, replace(prepared, examples=without), "pst", MAIN)
    assert caught.value.field == "hyperparameters.validations"


def test_the_baseline_of_a_sparse_job_is_dense(job: Job, prepared: Prepared) -> None:
    _, trained = run_stage(job, prepared, "dense", MAIN)
    assert {point.sparsity for point in trained.curve} == {0.0}
    assert (trained.matrices, dict(trained.masks)) == ((), {})
    assert trained.trainable_parameters == trained.parameters


def test_a_stage_gives_back_a_plain_model(stage: tuple[PreTrainedModel, Trained]) -> None:
    model, trained = stage
    assert not any(isinstance(module, SparseLinear) for module in model.modules())
    assert trained.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_the_masks_are_where_the_model_is_not_zero(
    stage: tuple[PreTrainedModel, Trained],
) -> None:
    model, trained = stage
    assert len(trained.masks) == len(trained.matrices) == 12
    for name, mask in trained.masks.items():
        assert torch.equal(mask, model.get_parameter(name).cpu() != 0)


def test_the_factors_are_those_of_the_masked_tensors(
    stage: tuple[PreTrainedModel, Trained],
) -> None:
    trained = stage[1]
    assert trained.factors.keys() == trained.masks.keys()
    for name, mask in trained.masks.items():
        factors = trained.factors[name]
        assert (len(factors.U), len(factors.V.T)) == mask.shape


# What a teacher says


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """Gets those of the epochs that the next stage would train."""
    seen: list[Batch] = []

    def look(run: Run) -> Cost:
        seen.extend(islice(run.batches, run.total_steps))
        return Cost(steps=0, seconds=0.0, step_seconds=0.0, peak_memory_bytes=0)

    monkeypatch.setattr(stages, "train", look)
    return seen


def taught(job: Job, **hyper: object) -> tuple[Job, Prepared, torch.Tensor]:
    """A job that distils, for one epoch unless it says so; what its teacher says is random."""
    hyper = {**HYPER, "epochs": 1, "distillation": 0.5, "splices": 1, **hyper}
    job = changed(job, baseline="train", hyperparameters=hyper)
    prepared = prepare(job.spec, job.sources)
    logits = torch.randn(len(to_be_taught(job, prepared)), 2)
    return job, prepared, logits


@pytest.mark.parametrize("splices", [1, 3])
def test_epochs_are_longer_by_as_many_splices_as_there_are(
    splices: int, job: Job, batches: list[Batch]
) -> None:
    job, prepared, teacher = taught(job, splices=splices)
    run_stage(job, prepared, "pst", MAIN, teacher=teacher)
    # Each row of either kind once an epoch.
    assert [len(batch.rows) for batch in batches] == [16] * 10 * (1 + splices)
    rows = [row for batch in batches for row in batch.rows.tolist()]
    assert sorted(rows) == list(range(160 * (1 + splices)))


def test_each_epoch_has_splices_of_its_own(job: Job, batches: list[Batch]) -> None:
    job, prepared, teacher = taught(job, epochs=2, splice_sets=2)
    run_stage(job, prepared, "pst", MAIN, teacher=teacher)
    first, second = (
        sorted(row for batch in epoch for row in batch.rows.tolist())
        for epoch in (batches[:20], batches[20:])
    )
    assert first == list(range(320))
    assert second == [*range(160), *range(320, 480)]


@pytest.mark.parametrize(("epochs", "sets"), [(0.5, 1), (2.5, 3), (8, 8), (100, 8)])
def test_as_many_epochs_splice_anew_as_there_are_and_are_asked_for(
    epochs: float, sets: int, job: Job
) -> None:
    job, prepared, _ = taught(job, epochs=epochs, splices=2, splice_sets=8)
    assert len(to_be_taught(job, prepared)) == 160 * (1 + 2 * sets)


def test_what_is_spliced_is_answered_by_the_teacher_alone(job: Job, batches: list[Batch]) -> None:
    job, prepared, teacher = taught(job)
    run_stage(job, prepared, "pst", MAIN, teacher=teacher)
    found = {
        row: target
        for batch in batches
        for row, target in zip(batch.rows.tolist(), batch.targets.tolist(), strict=True)
    }
    own = prepared.examples["train"].targets.tolist()
    assert [found[row] for row in sorted(found)] == own + teacher.argmax(1).tolist()[len(own) :]


def test_the_dense_yardstick_trains_on_nothing_spliced(job: Job, batches: list[Batch]) -> None:
    job, prepared, _ = taught(job)
    run_stage(job, prepared, "dense", MAIN)
    assert [len(batch.rows) for batch in batches] == [16] * 10
    assert {row for batch in batches for row in batch.rows.tolist()} == set(range(160))


@pytest.mark.parametrize(("rows", "sizes"), [(5, [4, 1]), (1000, [4, 4])])
def test_wanda_sees_the_first_rows_of_the_training_split(
    rows: int, sizes: Sequence[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Batch] = []
    # What it does with them is wanda.py's.
    monkeypatch.setattr(stages, "calibrate", lambda _m, _s, batches, _r: seen.extend(batches))
    folder = tiny.save_language_model(tmp_path / "model")
    tiny.save_csv(tmp_path / "texts.csv", [("a film",)] * 20, columns=("text",))
    spec = tiny.spec(
        tmp_path,
        task="causal-lm",
        method="wanda",
        dataset={"ref": "file:texts.csv", "splits": {"train": 10, "validation": 5, "test": 5}},
        hyperparameters={"batch_size": 4, "calibration_rows": rows, "max_length": 4},
    )
    sources = Sources(model=folder, dataset=DataSource(path=tmp_path / "texts.csv"))
    prepared = prepare(spec, sources)
    _, trained = run_stage(Job(spec=spec, sources=sources, emit=print), prepared, "wanda", MAIN)
    assert (trained.cost.steps, trained.curve, trained.trainable_parameters) == (0, (), 0)
    # Ten texts of two words and an end make seven blocks of four tokens and one of two.
    assert [len(batch.rows) for batch in seen] == sizes
    assert [row for batch in seen for row in batch.rows.tolist()] == list(range(sum(sizes)))
