"""From a spec's sources to tokenized examples; the same for the trainer and for who verifies it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pst_core.batches import Examples
from pst_core.bootstrap import Sample
from pst_core.data import SplitData, load_splits
from pst_core.dataset_spec import SplitName
from pst_core.errors import InvalidDatasetError
from pst_core.pretrained import load_tokenizer
from pst_core.readers import SPLITS
from pst_core.references import DataSource
from pst_core.spec import CompressionSpec
from pst_core.tasks import Task, make_task
from pst_core.tasks.base import Scored


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """What a spec's references resolved to.

    Args:
        model: A model's folder, or a GGUF file.
        dataset: A file or a folder of splits.
        baseline: The dense checkpoint of the job that the spec names as its baseline.
    """

    model: Path
    dataset: DataSource
    baseline: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The task, and the examples of each split that was asked for."""

    task: Task
    data: SplitData
    tokenizer: PreTrainedTokenizerBase
    examples: Mapping[SplitName, Examples]

    def score(self, model: PreTrainedModel, split: SplitName) -> Scored:
        """What a model scores on a split, without dropout; it is left as it was."""
        rows = self.data.rows(split)
        return self.task.evaluate(model, self.examples[split], self.tokenizer, rows)

    def sample(self, model: PreTrainedModel, split: SplitName) -> Sample:
        """The primary metric alone, which costs no resampling."""
        rows = self.data.rows(split)
        return self.task.sample(model, self.examples[split], self.tokenizer, rows)


def prepare(
    spec: CompressionSpec, sources: Sources, *, splits: Sequence[SplitName] = SPLITS
) -> Prepared:
    """Read, split and tokenize the data.

    Raises:
        InvalidDatasetError: With the field or the row at fault.
        UnsupportedModelError: The tokenizer cannot be loaded, or does not fit.
    """
    task = make_task(spec)
    data = load_splits(
        spec.dataset, sources.dataset, columns=spec.columns(), target=task.target, seed=spec.seed
    )
    tokenizer = load_tokenizer(sources.model, max_length=task.hyper.max_length)
    examples = {
        split: Examples.collect(task.encode(data.rows(split), data.labels, tokenizer))
        for split in splits
    }
    for split, found in examples.items():
        # Language modelling may make no block of a few short rows.
        if split != "validation" and not found:
            raise InvalidDatasetError(
                f"The {split} split has too little text for one block.",
                field="dataset",
                remedy="Give it more text.",
            )
    return Prepared(task=task, data=data, tokenizer=tokenizer, examples=examples)
