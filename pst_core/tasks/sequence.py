"""One answer a text, or a pair of texts: a class or a number, from a head on an encoder."""

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    BatchEncoding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pst_core.batches import Batch, Collator, Example, Examples, evaluation_batches
from pst_core.bootstrap import Sample
from pst_core.convert import head_parameters
from pst_core.metrics import METRICS, scores
from pst_core.pretrained import label_names, load_pretrained
from pst_core.rows import Row, Target
from pst_core.tasks.base import Scored, Task

ROWS_AT_ONCE = 1000  # enough for a fast tokenizer's threads, and few enough to stay small
NUMBER = re.compile(r"(LABEL_)?-?\d+")  # no name, but a place in the order


class _OneAnswer(Task):
    has_new_head: ClassVar[bool] = True

    @abstractmethod
    def _head(self, labels: tuple[str, ...]) -> dict[str, Any]:
        """The options of the model's configuration that shape its head."""

    @abstractmethod
    def _number(self, label: str, labels: tuple[str, ...]) -> float: ...

    @abstractmethod
    def answers(self, logits: Tensor) -> Tensor:
        """The classes or numbers of a batch, B."""

    def load_model(
        self,
        path: Path,
        labels: tuple[str, ...],
        tokenizer: PreTrainedTokenizerBase,
        *,
        seed: int,
    ) -> PreTrainedModel:
        model = load_pretrained(
            AutoModelForSequenceClassification,
            path,
            seed=seed,
            may_be_new=head_parameters,
            **self._head(labels),
        )
        # Decoders find the last token of each text by it: it must be what pads the batches.
        model.config.pad_token_id = Collator.of(tokenizer, model.config).pad_token
        return model

    def encode(
        self, rows: Iterable[Row], labels: tuple[str, ...], tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[Example]:
        remaining = iter(rows)
        while chunk := list(islice(remaining, ROWS_AT_ONCE)):
            pairs = [row.cells["pair"] for row in chunk] if "pair" in chunk[0].cells else None
            encoded = tokenizer(
                [row.cells["text"] for row in chunk],
                pairs,
                truncation=True,
                max_length=self.hyper.max_length,
                return_token_type_ids=True,
            )
            # A model without types for them (RoBERTa) has a tokenizer that can tell all the same.
            typed = "token_type_ids" in tokenizer.model_input_names or not encoded.is_fast
            for number, (row, tokens) in enumerate(zip(chunk, encoded["input_ids"], strict=True)):
                yield Example(
                    tokens=np.array(tokens, np.int32),
                    target=self._number(row.cells["label"], labels),
                    second=_second(encoded, number, typed=typed) if pairs else None,
                )

    def logits(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        logits_BC: Tensor = model(**batch.inputs()).logits
        return logits_BC.float()

    def evaluate(
        self,
        model: PreTrainedModel,
        examples: Examples,
        tokenizer: PreTrainedTokenizerBase,
        rows: Iterable[Row] = (),
    ) -> Scored:
        del rows
        answers = self._all_answers(model, examples, tokenizer)
        return Scored(
            scores(self.metrics, answers, examples.targets),
            METRICS[self.metrics[0]].sample(answers, examples.targets),
        )

    def sample(
        self,
        model: PreTrainedModel,
        examples: Examples,
        tokenizer: PreTrainedTokenizerBase,
        rows: Iterable[Row] = (),
    ) -> Sample:
        del rows
        answers = self._all_answers(model, examples, tokenizer)
        return METRICS[self.metrics[0]].sample(answers, examples.targets)

    @torch.inference_mode()
    def _all_answers(
        self, model: PreTrainedModel, examples: Examples, tokenizer: PreTrainedTokenizerBase
    ) -> NDArray[np.float64]:
        answers = np.zeros(len(examples))
        for numbers, logits_BC in self.all_logits(model, examples, tokenizer):
            answers[numbers] = self.answers(logits_BC).double().cpu().numpy()
        return answers

    def teacher_logits(
        self,
        model: PreTrainedModel,
        examples: Examples,
        tokenizer: PreTrainedTokenizerBase,
        answered: Callable[[int], None] | None = None,
    ) -> Tensor:
        logits_NC, done = torch.empty(len(examples), 0), 0
        for rows, logits_BC in self.all_logits(model, examples, tokenizer):
            if not done:
                logits_NC = torch.zeros(len(examples), logits_BC.shape[-1])
            logits_NC[torch.from_numpy(rows)] = logits_BC.cpu()
            done += len(rows)
            if answered is not None:
                answered(done)
        return logits_NC

    @torch.inference_mode()
    def all_logits(
        self, model: PreTrainedModel, examples: Examples, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """The logits of every example, batch by batch, without dropout; with the examples' rows."""
        was_training = model.training
        model.eval()
        collate = Collator.of(tokenizer, model.config)
        for batch in evaluation_batches(examples, batch_size=self.batch_size, collate=collate):
            yield batch.rows.numpy(), self.logits(model, batch.to(model.device))
        model.train(was_training)


def _second(encoded: BatchEncoding, row: int, *, typed: bool) -> int | None:
    """Where the second segment of a row begins; None where it has none, or nobody knows."""
    segments: Sequence[int | None]
    segments = encoded["token_type_ids"][row] if typed else encoded.sequence_ids(row)
    return segments.index(1) if 1 in segments else None


class Classification(_OneAnswer):
    """The class of a text, by cross-entropy."""

    target: ClassVar[Target] = "class"

    def load_model(
        self,
        path: Path,
        labels: tuple[str, ...],
        tokenizer: PreTrainedTokenizerBase,
        *,
        seed: int,
    ) -> PreTrainedModel:
        model = super().load_model(path, labels, tokenizer, seed=seed)
        names = label_names(path)
        # A head of another size does not fit, and starts at random already.
        if len(names) == len(labels):
            _match_outputs(model, names, labels)
        return model

    def _head(self, labels: tuple[str, ...]) -> dict[str, Any]:
        return {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: number for number, label in enumerate(labels)},
        }

    def _number(self, label: str, labels: tuple[str, ...]) -> float:
        return labels.index(label)

    def answers(self, logits: Tensor) -> Tensor:
        return logits.argmax(-1)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(logits, batch.targets.long())

    def distance(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """τ²·KL(teacher ‖ model) of logits softened by τ (Hinton et al. 2015, arXiv 1503.02531)."""
        temperature = self.hyper.distillation_temperature
        divergence = nn.functional.kl_div(
            nn.functional.log_softmax(logits / temperature, -1),
            nn.functional.log_softmax(teacher / temperature, -1),
            log_target=True,
            reduction="batchmean",
        )
        return divergence * temperature**2


@torch.no_grad()
def _match_outputs(model: PreTrainedModel, names: Sequence[str], labels: Sequence[str]) -> None:
    """Give each label the output that the checkpoint has for it.

    Outputs of the same names, upper or lower case, are put into the labels' order. Where one side
    has numbers for names (LABEL_0, 0), the orders are taken to be the same. Other names are
    another task: the outputs start at random, as where there are more or fewer of them.

    Args:
        model: With a head of as many outputs.
        names: The checkpoint's of its outputs.
        labels: Those that the outputs shall have.
    """
    output = _output_layer(model, len(labels))
    there, wanted = ([name.casefold() for name in each] for each in (names, labels))
    if sorted(there) == sorted(wanted):
        rows = [there.index(label) for label in wanted]
        for parameter in output.parameters():
            parameter.copy_(parameter[rows])
    elif not any(all(NUMBER.fullmatch(name) for name in each) for each in (names, labels)):
        nn.init.normal_(output.weight, std=getattr(model.config, "initializer_range", 0.02))
        if output.bias is not None:
            nn.init.zeros_(output.bias)


def _output_layer(model: PreTrainedModel, outputs: int) -> nn.Linear:
    head = {id(parameter) for parameter in head_parameters(model).values()}
    # The last, since a layer before it may happen to be of this size too.
    *_, layer = (
        module
        for module in model.modules()
        if isinstance(module, nn.Linear)
        and module.out_features == outputs
        and id(module.weight) in head
    )
    return layer


class Regression(_OneAnswer):
    """A number for a text, by squared error."""

    target: ClassVar[Target] = "number"

    def _head(self, labels: tuple[str, ...]) -> dict[str, Any]:
        del labels
        return {"num_labels": 1, "problem_type": "regression"}

    def _number(self, label: str, labels: tuple[str, ...]) -> float:
        del labels
        return float(label)

    def answers(self, logits: Tensor) -> Tensor:
        return logits[:, 0]

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return nn.functional.mse_loss(logits[:, 0], batch.targets.float())

    def distance(self, logits: Tensor, teacher: Tensor) -> Tensor:
        return nn.functional.mse_loss(logits, teacher)
