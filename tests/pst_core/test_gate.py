"""The drop that a spec allows is held against what was lost, in points or the metric's unit."""

from pathlib import Path

import pytest

from pst_core import terminal
from pst_core.gate import judge
from pst_core.report import Gate
from pst_core.spec import Metric
from tests.pst_core import sample_report
from tests.pst_core.exports import run
from tests.pst_core.tiny import spec_document


@pytest.mark.parametrize(
    ("metric", "value", "baseline", "drop"),
    [
        ("accuracy", 0.89, 0.9, 1.0),
        ("matthews", 0.52, 0.5, -2.0),
        ("pearson", -0.1, 0.1, 20.0),
        ("bleu", 40.0, 42.5, 2.5),
        ("perplexity", 12.5, 10.0, 2.5),
        ("mse", 0.25, 0.5, -0.25),
    ],
)
def test_a_drop_is_how_much_worse_a_model_is(
    metric: Metric, value: float, baseline: float, drop: float
) -> None:
    assert judge(metric, limit=3, value=value, baseline=baseline).drop == drop


@pytest.mark.parametrize(("value", "passed"), [(0.9, True), (0.89, True), (0.8899, False)])
def test_a_drop_of_just_the_limit_passes(value: float, passed: bool) -> None:
    assert judge("accuracy", limit=1, value=value, baseline=0.9).passed is passed


def test_a_model_that_is_better_passes_a_limit_of_0() -> None:
    assert judge("perplexity", limit=0, value=9.5, baseline=10) == Gate(
        limit=0, drop=-0.5, passed=True
    )


def test_a_missed_gate_is_told_and_fails_nothing(tmp_path: Path) -> None:
    # A head that hardly moves, against a baseline that learns.
    hyper = spec_document(tmp_path)["hyperparameters"]
    assert isinstance(hyper, dict)
    slow = {**hyper, "epochs": 4, "learning_rate": 1e-9, "head_learning_rate": 1e-9}
    changes = {"baseline": "train", "max_drop": 0, "hyperparameters": slow}
    export = run(tmp_path, tmp_path / "out", changes=changes)
    outcome = export.report.outcome
    assert outcome.gate is not None
    assert outcome.difference is not None
    assert not outcome.gate.passed
    assert outcome.gate.drop == pytest.approx(-100 * outcome.difference.value)
    card = (export.out / "dense" / "README.md").read_text(encoding="utf-8")
    assert "Gate **missed**: the drop of `accuracy` against the baseline is" in card
    export.verify()


def test_the_terminal_shows_the_gate(capsys: pytest.CaptureFixture[str]) -> None:
    gate = {"limit": 1, "drop": 0.5, "passed": True}
    terminal.show(sample_report.report(gate=gate), Path("report.md"))
    assert "passed: a drop of 0.5, at most 1 allowed" in capsys.readouterr().out
