"""How far a compression is, as it is told while it trains, and the curve that stays of it.

What is trained, and when something is told, is decided elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pst_core.events import Emit, ProgressEvent, Stage
from pst_core.fields import Count, Strict
from pst_core.insight import MaskWatch
from pst_core.layers import SparseLinear
from pst_core.report import CurvePoint
from pst_core.trainer import StepReport

MAX_POINTS = 500  # of a curve; a longer one is thinned to half


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """Where a stage stands among all: what was done before it and what there is to do in all."""

    stage: Stage
    steps_before: int
    steps_in_all: int


class CurveState(Strict):
    """A curve between two steps, but for the masks that it has seen last."""

    points: tuple[CurvePoint, ...]
    reports: Count
    """How often it was told of a step."""


class Curve:
    """Collects what a run reports, and passes it on."""

    def __init__(self, emit: Emit, outlook: Outlook, layers: Mapping[str, SparseLinear]) -> None:
        self.points: list[CurvePoint] = []
        self._emit = emit
        self._outlook = outlook
        self._watch = MaskWatch(layers)
        self._reports = 0

    def state(self) -> tuple[CurveState, Mapping[str, Tensor]]:
        """What it takes to go on with it: numbers, and the masks seen last."""
        return CurveState(points=tuple(self.points), reports=self._reports), self._watch.seen()

    def go_on(self, state: CurveState, seen: Mapping[str, Tensor]) -> None:
        """Have it be what it was in an earlier part of the run."""
        self.points, self._reports = [*state.points], state.reports
        self._watch.go_on(seen)

    def report(self, at: StepReport) -> None:
        outlook = self._outlook
        # Every tenth: a look costs as much as the masks of a step.
        looks = self._reports % 10 == 0
        self._reports += 1
        churn = self._watch.churn() if looks else None
        self.points.append(
            CurvePoint(step=at.step, loss=at.loss, sparsity=at.sparsity, mask_churn=churn)
        )
        if len(self.points) > MAX_POINTS:
            # Every second one, but for the ends.
            del self.points[1:-1:2]
        step = outlook.steps_before + at.step
        # The stage still to come is taken to cost as much a step as this one.
        self._emit(
            ProgressEvent(
                stage=outlook.stage,
                step=step,
                total_steps=outlook.steps_in_all,
                loss=at.loss,
                sparsity=at.sparsity,
                learning_rate=at.learning_rate,
                eta_seconds=at.step_seconds * (outlook.steps_in_all - step),
            )
        )
