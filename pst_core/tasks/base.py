"""What every task has to say for itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pst_core.batches import Batch, Example, Examples
from pst_core.bootstrap import Sample
from pst_core.report import Scores
from pst_core.rows import Row, Target
from pst_core.spec import CompressionSpec


@dataclass(frozen=True, slots=True)
class Scored:
    """A model on one split: its scores, and the primary metric as something to resample."""

    scores: Scores
    sample: Sample


class Task(ABC):
    """One kind of task, with the spec's choices.

    Attributes:
        target: What the column of role "label" holds.
        has_new_head: Whether the model gets a head that starts at random.
    """

    target: ClassVar[Target]
    has_new_head: ClassVar[bool]

    def __init__(self, spec: CompressionSpec) -> None:
        self.metrics = spec.metrics()
        self.hyper = spec.resolved_hyperparameters()
        # What fits while gradients are kept fits without them.
        self.batch_size = self.hyper.batch_size // self.hyper.accumulation

    @abstractmethod
    def load_model(
        self,
        path: Path,
        labels: tuple[str, ...],
        tokenizer: PreTrainedTokenizerBase,
        *,
        seed: int,
    ) -> PreTrainedModel:
        """The pretrained model with what this task needs, in float32.

        Raises:
            UnsupportedModelError: It cannot be used for this task.
        """

    @abstractmethod
    def encode(
        self, rows: Iterable[Row], labels: tuple[str, ...], tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[Example]:
        """The rows as token sequences."""

    @abstractmethod
    def logits(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """What the model says about a batch, float32."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The mean loss of a batch, a scalar."""

    @abstractmethod
    def evaluate(
        self,
        model: PreTrainedModel,
        examples: Examples,
        tokenizer: PreTrainedTokenizerBase,
        rows: Iterable[Row] = (),
    ) -> Scored:
        """What the model scores, in evaluation mode; it is left as it was.

        Args:
            model: On any device.
            examples: To score it on.
            tokenizer: The model's.
            rows: What the examples were encoded from, for tasks that are judged by their text.
        """

    @abstractmethod
    def sample(
        self,
        model: PreTrainedModel,
        examples: Examples,
        tokenizer: PreTrainedTokenizerBase,
        rows: Iterable[Row] = (),
    ) -> Sample:
        """The primary metric of that, and no more than is needed for it."""

    def distance(self, logits: Tensor, teacher: Tensor) -> Tensor | None:
        """The distillation loss to a teacher's logits; None where the task has none."""
        # Not abstract: language modelling has too many logits to keep a teacher's.
        del logits, teacher
        return None

    def answers(self, logits: Tensor) -> Tensor:
        """What logits say, as targets do; of the tasks that have a distance."""
        raise NotImplementedError

    def teacher_logits(
        self,
        model: PreTrainedModel,
        examples: Examples,
        tokenizer: PreTrainedTokenizerBase,
        answered: Callable[[int], None] | None = None,
    ) -> Tensor | None:
        """A teacher's logits of every example, on the CPU; None where they would be too many.

        Args:
            model: The teacher, on any device.
            examples: To be answered.
            tokenizer: The model's.
            answered: Told after each batch how many examples are.
        """
        del model, examples, tokenizer, answered
        return None
