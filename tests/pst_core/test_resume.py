"""A run that is stopped or killed anywhere ends, when it is started again, with the same bytes."""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pst_core.events import (
    EvaluationEvent,
    Event,
    ProgressEvent,
    ResumedEvent,
    SnapshotEvent,
    SnapshotRejectedEvent,
)
from pst_core.prepare import Sources
from pst_core.pretrained import device
from pst_core.recipes import PRESETS
from pst_core.references import DataSource
from pst_core.resume import Snapshooter
from pst_core.snapshots import Snapshots
from pst_core.spec import CompressionSpec
from pst_core.surroundings import Identity, identity
from tests.pst_core import tiny
from tests.pst_core.exports import sha256s
from tests.pst_core.interrupted import Case, undisturbed

# On a GPU the same bytes are not promised, though they were the same on those that were tried.
ON_THE_CPU = device().type == "cpu"
HYPER = {"epochs": 0.4, "batch_size": 16, "rank": 2, "score_rank": 2}
STEPS = 4  # of the baseline: 0.4 epochs of 160 rows
TOTAL = STEPS + 2 * STEPS  # with a splice for each row
# Everything that a snapshot may hold: a baseline that is distilled, a best that is kept, masks.
ALL: dict[str, Any] = {
    "preset": "default",
    "baseline": "train",
    "hyperparameters": {**HYPER, "final_hold": 0.8, "validations": 6, "keep_best": True},
}
GROUPS = ("parameters", "random", "optimizer", "best", "masks", "baseline")
# In the order in which a snapshot of the main stage reaches them.
POINTS = (
    "snapshot:begun",
    *(f"snapshot:{group}" for group in GROUPS),
    "snapshot:state",
    "snapshot:manifest",
    "snapshot:staged",
    "snapshot:renamed",
    "snapshot:durable",
    "snapshot:pruned",
)
FILES = ("manifest.json", "state.json", *(f"{group}.safetensors" for group in GROUPS))
PATIENT = {"final_hold": 0.8, "validations": 4, "patience": 1, "keep_best": True}
SPECS: dict[str, dict[str, Any]] = {
    "pst": {},
    "magnitude": {"method": "magnitude", "scope": "global"},
    "movement": {"method": "movement"},
    "random": {"method": "random"},
    "lora": {"method": "lora", "sparsity": None},
    "dense": {"method": "dense", "sparsity": None},
    "accumulation": {"hyperparameters": {**HYPER, "accumulation": 4}},
    "dropout": {"hyperparameters": {**HYPER, "dropout": 0.3}},
    "patience": {"hyperparameters": {**HYPER, **PATIENT}},
    "frozen head": {"preset": "paper-released"},
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return tiny.sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def expected(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run of `ALL` makes when nobody interrupts it."""
    return undisturbed(spec(sources, ALL), sources, tmp_path_factory.mktemp("expected") / "out")


@pytest.fixture
def case(sources: Sources, tmp_path: Path) -> Case:
    """A run of `ALL` that makes a snapshot after every step."""
    return Case(spec(sources, ALL), sources, tmp_path)


@pytest.fixture(scope="module")
def stopped(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """One that was stopped in its main stage; not to be changed."""
    case = Case(spec(sources, ALL), sources, tmp_path_factory.mktemp("stopped"))
    case.stop_after(STEPS + 3)
    return case


@pytest.fixture
def early(stopped: Case, tmp_path: Path) -> Case:
    """One whose newest snapshot is of two steps into the main stage."""
    case = Case(stopped.spec, stopped.sources, tmp_path)
    shutil.copytree(stopped.snapshots / "step-00000006", case.snapshots / "step-00000006")
    return case


@pytest.fixture
def copy(stopped: Case, tmp_path: Path) -> Case:
    """The same, to be gone on with or spoiled."""
    copied = Case(stopped.spec, stopped.sources, tmp_path / "copy")
    shutil.copytree(stopped.snapshots, copied.snapshots)
    return copied


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def spec(sources: Sources, changes: dict[str, Any]) -> CompressionSpec:
    return tiny.spec(sources.model.parent, **{"hyperparameters": HYPER, **changes})


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def identity_of(case: Case) -> Identity:
    state = json.loads((case.snapshots / names(case)[-1] / "state.json").read_bytes())
    return Identity.model_validate(state["identity"])


def find(case: Case, identity: Identity) -> list[Event]:
    """What is told when a run looks for where to go on."""
    events: list[Event] = []
    Snapshooter(Snapshots(folder=case.snapshots, every_seconds=0), events.append, identity)
    return events


def names(case: Case) -> list[str]:
    return sorted(path.name for path in case.snapshots.iterdir())


def reached(case: Case) -> list[str]:
    """The points of an attempt, in order."""
    found: list[str] = []

    def listen(event: str, args: tuple[str, ...]) -> None:
        if event == "pst.reached":
            found.extend(args)

    # There is no way to take it away again; it costs nothing.
    sys.addaudithook(listen)
    case.attempt()
    return found


@pytest.mark.parametrize("name", SPECS)
def test_a_stopped_run_ends_with_the_bytes_of_an_undisturbed_one(
    name: str, sources: Sources, tmp_path: Path
) -> None:
    asked = spec(sources, SPECS[name])
    expected = undisturbed(asked, sources, tmp_path / "undisturbed")
    case = Case(asked, sources, tmp_path, every_seconds=3600)
    case.stop_after(2)
    case.attempt()
    (resumed,) = case.told(ResumedEvent)
    assert (resumed.name, resumed.stage) == ("step-00000002", "main")
    assert resumed.exact is ON_THE_CPU
    assert sha256s(case.out) == expected


def test_a_language_model_ends_with_the_same_bytes(tmp_path: Path) -> None:
    folder = tiny.save_language_model(tmp_path / "model")
    data = tiny.save_csv(tmp_path / "t.csv", [("a film it was",)] * 60, columns=("text",))
    asked = tiny.spec(
        tmp_path,
        task="causal-lm",
        dataset={"ref": "file:t.csv", "splits": {"train": 40, "validation": 5, "test": 15}},
        sparsity=None,
        pattern="2:4",
        baseline="train",
        hyperparameters={**HYPER, "max_length": 8, "batch_size": 4, "epochs": 0.5},
    )
    case = Case(asked, Sources(model=folder, dataset=DataSource(path=data)), tmp_path)
    expected = undisturbed(asked, case.sources, tmp_path / "undisturbed")
    case.stop_after(5)
    case.attempt()
    assert len(case.told(ResumedEvent)) == 1
    assert sha256s(case.out) == expected


@pytest.mark.parametrize("steps", [1, STEPS, STEPS + 1])
def test_a_run_may_be_stopped_in_either_stage(
    steps: int, case: Case, expected: dict[str, str]
) -> None:
    case.every_seconds = 3600
    case.stop_after(steps)
    case.attempt()
    (resumed,) = case.told(ResumedEvent)
    assert resumed.step == steps
    assert resumed.stage == ("baseline" if steps <= STEPS else "main")
    assert sha256s(case.out) == expected


def test_a_run_may_be_stopped_again_and_again(case: Case, expected: dict[str, str]) -> None:
    case.every_seconds = 3600
    for _ in range(3):
        case.stop_after(2)
    case.attempt()
    assert case.told(ResumedEvent)[0].step == 6
    assert sha256s(case.out) == expected


@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_is_killed_while_it_makes_a_snapshot_has_a_whole_one(
    point: str, early: Case
) -> None:
    early.kill_at(point)
    (resumed,) = find(early, identity_of(early))
    assert isinstance(resumed, ResumedEvent)
    is_there = POINTS.index(point) >= POINTS.index("snapshot:renamed")
    assert resumed.step == (STEPS + 3 if is_there else STEPS + 2)
    assert resumed.exact is ON_THE_CPU


def test_a_run_may_be_killed_at_each_of_these_points_in_turn(
    case: Case, expected: dict[str, str]
) -> None:
    for point in POINTS:
        case.kill_at(point)
    case.attempt()
    assert sha256s(case.out) == expected
    assert names(case) == ["step-00000011", "step-00000012"]


@pytest.mark.parametrize("step", [2, STEPS + 1])
def test_a_run_may_be_killed_after_any_step(
    step: int, case: Case, expected: dict[str, str]
) -> None:
    case.kill_at("train:step", step)
    case.attempt()
    assert [event.step for event in case.told(ResumedEvent)] == ([step - 1] if step > 1 else [])
    assert sha256s(case.out) == expected


def test_a_run_that_is_killed_while_it_exports_trains_no_more(
    case: Case, expected: dict[str, str]
) -> None:
    case.kill_at("event:exporting")
    case.attempt()
    assert case.told(ResumedEvent)[0].step == TOTAL
    assert case.told(ProgressEvent) == []
    assert sha256s(case.out) == expected


def test_a_run_that_is_killed_while_the_baseline_is_scored_trains_that_no_more(
    case: Case, expected: dict[str, str]
) -> None:
    case.kill_at("event:evaluation")
    case.attempt()
    assert {event.stage for event in case.told(ProgressEvent)} == {"main"}
    assert {event.stage for event in case.told(EvaluationEvent)} == {"baseline", "main"}
    assert sha256s(case.out) == expected


def test_a_baseline_that_is_over_is_neither_trained_nor_scored_again(copy: Case) -> None:
    copy.attempt()
    assert {event.stage for event in copy.told(ProgressEvent)} == {"main"}
    assert {event.stage for event in copy.told(EvaluationEvent)} == {"main"}


def test_the_report_goes_on_where_it_was(case: Case, copy: Case) -> None:
    whole, resumed = case.attempt(), copy.attempt()
    assert resumed.outcome == whole.outcome
    assert resumed.curve == whole.curve
    assert resumed.cost.steps == whole.cost.steps
    assert resumed.baseline_cost is not None
    assert resumed.baseline_cost.steps == STEPS


def test_the_seconds_of_all_attempts_are_counted(copy: Case) -> None:
    state = copy.snapshots / names(copy)[-1] / "state.json"
    before = json.loads(state.read_bytes())["training"]["seconds"]
    assert before > 0
    assert copy.attempt().cost.seconds > before


def test_every_point_of_a_snapshot_is_one_that_a_run_is_killed_at(case: Case) -> None:
    found = reached(case)
    assert {*found} == {*POINTS, "train:step"}


@pytest.mark.parametrize("file", FILES)
def test_the_one_before_takes_the_place_of_one_with_a_flipped_bit(copy: Case, file: str) -> None:
    older, newer = names(copy)
    identity = identity_of(copy)
    flip_a_bit(copy.snapshots / newer / file)
    rejected, resumed = find(copy, identity)
    assert isinstance(rejected, SnapshotRejectedEvent)
    assert rejected.name == newer
    assert file in rejected.reason
    assert isinstance(resumed, ResumedEvent)
    assert resumed.name == older


def test_a_run_goes_on_from_the_one_before(copy: Case, expected: dict[str, str]) -> None:
    flip_a_bit(copy.snapshots / names(copy)[-1] / "optimizer.safetensors")
    copy.attempt()
    assert copy.told(ResumedEvent)[0].name == "step-00000006"
    assert sha256s(copy.out) == expected
    assert names(copy) == ["step-00000011", "step-00000012"]


def test_a_run_without_a_whole_snapshot_starts_anew(copy: Case, expected: dict[str, str]) -> None:
    for name in names(copy):
        (copy.snapshots / name / "state.json").unlink()
    copy.attempt()
    assert len(copy.told(SnapshotRejectedEvent)) == 2
    assert copy.told(ResumedEvent) == []
    assert copy.told(ProgressEvent)[0].step == 1
    assert sha256s(copy.out) == expected


@pytest.mark.parametrize("what", ["spec", "data", "model"])
def test_a_run_with_another_spec_or_source_takes_none(copy: Case, what: str) -> None:
    events = find(copy, identity_of(copy).model_copy(update={what: "0" * 64}))
    told = {event.reason for event in events if isinstance(event, SnapshotRejectedEvent)}
    assert told == {f"It was made with another {what}."}
    assert len(events) == 2


def test_a_preset_whose_values_are_others_by_now_makes_another_run(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spec(sources, ALL)
    before = identity(asked, "data", sources.model)
    values = asked.resolved_hyperparameters().model_dump()
    monkeypatch.setitem(PRESETS["default"], "learning_rate", 0.5)

    assert identity(asked, "data", sources.model).differs(before) == ["spec"]
    assert identity(asked.trained_by(values), "data", sources.model) == before


def test_a_run_without_splices_is_what_it_was_before_there_were_any(sources: Sources) -> None:
    asked = spec(sources, {})
    values = asked.resolved_hyperparameters().model_dump(
        mode="json", exclude={"splices", "splice_sets"}
    )
    assert identity(asked, "data", sources.model).spec == hash_of(asked, values)


@pytest.mark.parametrize(("sets", "unknown"), [(1, {"splice_sets"}), (2, set())])
def test_a_run_with_splices_is_another_than_when_they_made_batches_larger(
    sets: int, unknown: set[str], sources: Sources
) -> None:
    asked = spec(sources, {**ALL, "hyperparameters": {**HYPER, "splice_sets": sets}})
    values = asked.resolved_hyperparameters().model_dump(mode="json", exclude=unknown)
    assert values["splices"]
    assert identity(asked, "data", sources.model).spec != hash_of(asked, values)


def hash_of(asked: CompressionSpec, values: dict[str, Any]) -> str:
    document = asked.model_dump(mode="json") | {"hyperparameters": values}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_snapshots_of_another_run_are_left_alone(copy: Case, sources: Sources) -> None:
    theirs = names(copy)
    copy.spec = spec(sources, {})
    copy.attempt()
    assert {*theirs} < {*names(copy)}


def test_other_threads_are_told_and_the_run_goes_on(copy: Case, two_threads: None) -> None:
    del two_threads
    copy.attempt()
    (resumed,) = copy.told(ResumedEvent)
    assert not resumed.exact
    assert resumed.differs == ("threads: 1 then, 2 now",)


def test_a_stop_makes_a_snapshot_and_tells_of_it(stopped: Case) -> None:
    last = stopped.told(SnapshotEvent)[-1]
    assert (last.name, last.stage, last.step) == ("step-00000007", "main", STEPS + 3)
    assert last.name in names(stopped)


def test_a_stop_at_once_makes_none(case: Case) -> None:
    case.stop_after(0)
    assert case.told(SnapshotEvent) == []


def test_a_snapshot_is_made_as_often_as_asked_and_at_the_end_of_each_stage(case: Case) -> None:
    case.every_seconds = 3600
    case.attempt()
    assert [event.step for event in case.told(SnapshotEvent)] == [STEPS, TOTAL]


def test_a_run_that_makes_snapshots_ends_with_the_same_bytes(
    case: Case, expected: dict[str, str]
) -> None:
    case.attempt()
    assert [event.step for event in case.told(SnapshotEvent)] == list(range(1, TOTAL + 1))
    assert sha256s(case.out) == expected
