"""Events travel as lines of JSON, and a line that is not one of them is refused."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from pst_core.events import (
    EVENT,
    AnsweredEvent,
    DataEvent,
    EvaluationEvent,
    Event,
    FailureEvent,
    PhaseEvent,
    ProgressEvent,
    ResultEvent,
    ResumedEvent,
    SnapshotEvent,
    SnapshotRejectedEvent,
)
from pst_core.spec import CompressionSpec
from tests.reports import report

PROGRESS: dict[str, Any] = {
    "type": "progress", "stage": "main", "step": 3, "total_steps": 9, "loss": 0.7,
    "sparsity": 0.25, "learning_rate": 1e-4, "eta_seconds": 1.5,
}  # fmt: skip
FAILURE: dict[str, Any] = {"type": "failure", "code": "invalid_dataset", "message": "No rows."}
RESUMED: dict[str, Any] = {
    "type": "resumed", "name": "step-00000123", "stage": "baseline", "step": 123,
    "exact": False, "differs": ["threads: 1 then, 2 now"],
}  # fmt: skip
REJECTED: dict[str, Any] = {
    "type": "snapshot_rejected", "name": "step-1000000000", "reason": "state.json is missing.",
}  # fmt: skip
SPEC = CompressionSpec.model_validate({"model": "m", "dataset": "d", "sparsity": 0.5})

EVENTS: list[Event] = [
    PhaseEvent(phase="exporting"),
    ProgressEvent.model_validate(PROGRESS),
    EvaluationEvent(stage="baseline", split="test", metric="accuracy", value=1 / 3),
    AnsweredEvent(rows=32, total_rows=4096),
    SnapshotEvent(name="step-00000123", stage="main", step=123),
    ResumedEvent.model_validate(RESUMED),
    SnapshotRejectedEvent.model_validate(REJECTED),
    DataEvent(columns={"text": "Réview"}, rows={"train": 8, "validation": 0, "test": 1}),
    ResultEvent(report=report(SPEC)),
    FailureEvent(
        code="non_finite_loss", message="Ünfinite", field="a.b", remedy="Less.", retryable=True
    ),
]


def refused(document: object) -> str:
    with pytest.raises(ValidationError) as caught:
        EVENT.validate_json(json.dumps(document))
    return str(caught.value)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_an_event_comes_back_from_its_line_as_it_was(event: Event) -> None:
    assert EVENT.validate_json(EVENT.dump_json(event)) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_an_event_is_one_line(event: Event) -> None:
    assert b"\n" not in EVENT.dump_json(event)


def test_a_failure_may_be_no_more_than_code_and_message() -> None:
    event = EVENT.validate_json(json.dumps(FAILURE))
    assert event == FailureEvent(code="invalid_dataset", message="No rows.")


@pytest.mark.parametrize("line", ["", "{", "[]", "null", "7", '"phase"', '{"type": "phase"', "{}"])
def test_a_line_that_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValidationError):
        EVENT.validate_json(line)


def test_an_unknown_type_is_refused() -> None:
    assert "type" in refused({"type": "shell", "command": "id"})


def test_an_unknown_field_is_refused() -> None:
    assert "attempt" in refused(PROGRESS | {"attempt": 7})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step", -1), ("step", "3"), ("step", True), ("step", 3.5), ("step", 10**10),
        ("total_steps", None), ("sparsity", 1), ("sparsity", -0.1), ("learning_rate", -1),
        ("eta_seconds", -1), ("stage", "third"), ("loss", "low"),
    ],
)  # fmt: skip
def test_progress_out_of_range_is_refused_with_the_field(field: str, value: object) -> None:
    assert f"progress.{field}" in refused(PROGRESS | {field: value})


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(number: str) -> None:
    line = json.dumps(PROGRESS).replace("0.7", number)
    with pytest.raises(ValidationError, match="loss"):
        EVENT.validate_json(line)


def test_a_metric_with_an_odd_name_is_refused() -> None:
    document = {
        "type": "evaluation", "stage": "main", "split": "test", "metric": "a b", "value": 1.0,
    }  # fmt: skip
    assert "metric" in refused(document)


def test_an_unknown_phase_is_refused() -> None:
    assert "phase" in refused({"type": "phase", "phase": "succeeded"})


UNSAFE = ("", "step-1", "step-00000001/..", "../step-00000001", "step-00000001\n", f"step-{10**10}")


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("document", [RESUMED, REJECTED])
def test_a_snapshot_has_a_name_that_is_safe_as_a_folders(
    name: str, document: dict[str, Any]
) -> None:
    assert ".name" in refused(document | {"name": name})


def test_why_a_snapshot_is_rejected_is_bounded() -> None:
    EVENT.validate_json(json.dumps(REJECTED | {"reason": "x" * 500}))
    assert "rejected.reason" in refused(REJECTED | {"reason": "x" * 501})


def test_what_differs_is_bounded() -> None:
    EVENT.validate_json(json.dumps(RESUMED | {"differs": ["x" * 200] * 16}))
    assert "resumed.differs" in refused(RESUMED | {"differs": ["x"] * 17})


def test_one_difference_is_bounded_too() -> None:
    assert "resumed.differs" in refused(RESUMED | {"differs": ["x" * 201]})


@pytest.mark.parametrize("code", ["", "Not Snake", "x" * 41, "a\n", "drop;table"])
def test_a_failure_code_is_a_short_word(code: str) -> None:
    assert "failure.code" in refused(FAILURE | {"code": code})


@pytest.mark.parametrize(("field", "limit"), [("message", 4000), ("remedy", 2000), ("field", 200)])
def test_a_failure_that_says_too_much_is_refused(field: str, limit: int) -> None:
    EVENT.validate_json(json.dumps(FAILURE | {field: "x" * limit}))
    assert f"failure.{field}" in refused(FAILURE | {field: "x" * (limit + 1)})


def test_a_result_whose_report_lacks_something_is_refused() -> None:
    document = json.loads(EVENT.dump_json(ResultEvent(report=report(SPEC))))
    del document["report"]["outcome"]["sparsity"]
    assert "sparsity" in refused(document)


@pytest.mark.parametrize(("field", "value"), [("step", 4), ("loss", 0.0)])
def test_an_event_does_not_change_once_made(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(ProgressEvent.model_validate(PROGRESS), field, value)
