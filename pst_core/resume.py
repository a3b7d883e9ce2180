"""What a run keeps in its snapshots and goes on from: the stage in training, and those before it.

How a snapshot lies on disk is snapshots.py's, and what training is between two steps
training_state.py's.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import ValidationError
from torch import Tensor

from pst_core.bootstrap import Measured
from pst_core.errors import ForeignSnapshotError, SnapshotError
from pst_core.events import (
    MAX_DIFFERENCES,
    MAX_REASON,
    Emit,
    ResumedEvent,
    SnapshotEvent,
    SnapshotRejectedEvent,
    Stage,
)
from pst_core.fields import Count, Strict
from pst_core.pretrained import device
from pst_core.progress import Curve, CurveState, Outlook
from pst_core.report import Cost, Evaluation
from pst_core.snapshots import Contents, SnapshotFolder, Snapshots
from pst_core.surroundings import Identity, differences, environment
from pst_core.training_state import TrainingNumbers, TrainingState


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Yardstick:
    """All that is needed of the dense baseline once its model is gone.

    Args:
        evaluation: What it scored.
        test: Its primary metric on the test split, to be compared with another's.
        cost: Of its training; None where another job has trained it.
        teacher: Its logits of all that it teaches, on the CPU; None where none are distilled.
    """

    evaluation: Evaluation
    test: Measured
    cost: Cost | None
    teacher: Tensor | None


class _YardstickNumbers(Strict):
    evaluation: Evaluation
    cost: Cost | None
    rows: Count
    value: float


class _Numbers(Strict):
    """A snapshot's `state.json`."""

    identity: Identity
    environment: dict[str, str]
    stage: Stage
    step: Count
    """Over all stages."""
    training: TrainingNumbers
    curve: CurveState
    yardstick: _YardstickNumbers | None


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    name: str
    numbers: _Numbers
    tensors: dict[str, Mapping[str, Tensor]]


class Snapshooter:
    """Finds what a job can go on from, and makes its snapshots.

    Attributes:
        yardstick: Of the baseline, once that is over; it goes into every later snapshot.
    """

    def __init__(self, snapshots: Snapshots, emit: Emit, identity: Identity) -> None:
        self._folder = SnapshotFolder(snapshots.folder)
        self._every_seconds = snapshots.every_seconds
        self._emit = emit
        self._identity = identity
        self._environment = environment(device())
        self._made_at = time.monotonic()
        self._found = self._find()
        self.yardstick = _yardstick(self._found) if self._found else None

    def begin(self, stage: Stage, curve: Curve) -> TrainingState | None:
        """Where to go on with a stage; None at its start. The curve goes on there too."""
        found = self._found
        if found is None or found.numbers.stage != stage:
            return None
        # Large, and to be used once.
        self._found = None
        curve.go_on(found.numbers.curve, found.tensors.pop("masks", {}))
        return TrainingState(found.numbers.training, found.tensors)

    def is_due(self) -> bool:
        return time.monotonic() - self._made_at >= self._every_seconds

    def make(self, outlook: Outlook, curve: Curve, training: TrainingState) -> None:
        step = outlook.steps_before + training.numbers.step
        points, masks = curve.state()
        numbers = _Numbers(
            identity=self._identity,
            environment=self._environment,
            stage=outlook.stage,
            step=step,
            training=training.numbers,
            curve=points,
            yardstick=_yardstick_numbers(self.yardstick) if self.yardstick else None,
        )
        tensors = {
            **training.tensors,
            "masks": masks,
            "baseline": _yardstick_tensors(self.yardstick),
        }
        contents = Contents(
            state=numbers.model_dump(mode="json"),
            tensors={
                group: {name: each.detach().cpu() for name, each in members.items()}
                for group, members in tensors.items()
            },
        )
        name = self._folder.write(step, contents)
        self._made_at = time.monotonic()
        self._emit(SnapshotEvent(name=name, stage=outlook.stage, step=step))

    def _find(self) -> _Found | None:
        for name in self._folder.names():
            try:
                found = self._read(name)
            except SnapshotError as error:
                if isinstance(error, ForeignSnapshotError):
                    self._folder.leave_alone(name)
                self._emit(SnapshotRejectedEvent(name=name, reason=str(error)[:MAX_REASON]))
                continue
            self._folder.accept(name)
            self._tell(found)
            return found
        return None

    def _read(self, name: str) -> _Found:
        contents = self._folder.read(name)
        try:
            numbers = _Numbers.model_validate(contents.state)
        except ValidationError as error:
            first = error.errors()[0]
            raise ForeignSnapshotError(
                f"state.json is not as this release writes it: {first['loc']}: {first['msg']}."
            ) from error
        if others := self._identity.differs(numbers.identity):
            raise ForeignSnapshotError(f"It was made with another {' and '.join(others)}.")
        return _Found(name, numbers, {**contents.tensors})

    def _tell(self, found: _Found) -> None:
        differs = differences(found.numbers.environment, self._environment)
        event = ResumedEvent(
            name=found.name,
            stage=found.numbers.stage,
            step=found.numbers.step,
            # A GPU sums in whatever order its threads end.
            exact=not differs and device().type == "cpu",
            differs=tuple(each[:200] for each in differs[:MAX_DIFFERENCES]),
        )
        self._emit(event)


@dataclass(frozen=True, slots=True)
class StageKeeper:
    """What the trainer of one stage asks and tells."""

    snapshooter: Snapshooter
    outlook: Outlook
    curve: Curve

    def begin(self) -> TrainingState | None:
        return self.snapshooter.begin(self.outlook.stage, self.curve)

    def is_due(self) -> bool:
        return self.snapshooter.is_due()

    def keep(self, state: TrainingState) -> None:
        self.snapshooter.make(self.outlook, self.curve, state)


def _yardstick_numbers(yardstick: Yardstick) -> _YardstickNumbers:
    return _YardstickNumbers(
        evaluation=yardstick.evaluation,
        cost=yardstick.cost,
        rows=yardstick.test.rows,
        value=yardstick.test.value,
    )


def _yardstick_tensors(yardstick: Yardstick | None) -> dict[str, Tensor]:
    if yardstick is None:
        return {}
    teacher = {} if yardstick.teacher is None else {"teacher": yardstick.teacher}
    return {"resampled": torch.from_numpy(yardstick.test.resampled_S), **teacher}


def _yardstick(found: _Found) -> Yardstick | None:
    numbers, tensors = found.numbers.yardstick, found.tensors.pop("baseline", {})
    if numbers is None:
        return None
    return Yardstick(
        evaluation=numbers.evaluation,
        test=Measured(numbers.rows, numbers.value, tensors["resampled"].numpy()),
        cost=numbers.cost,
        teacher=tensors.get("teacher"),
    )
