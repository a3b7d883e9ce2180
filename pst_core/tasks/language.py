"""Text that continues text: language modelling, and a completion for a prompt."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pst_core.batches import Batch, Collator, Example, Examples, evaluation_batches
from pst_core.bootstrap import Sample
from pst_core.errors import UnsupportedModelError
from pst_core.metrics import METRICS, perplexity_scores
from pst_core.pretrained import load_pretrained
from pst_core.report import Scores
from pst_core.rows import Row, Target
from pst_core.tasks.base import Scored, Task
from pst_core.text_metrics import bleu, text_scores


class CausalLM(Task):
    """The next token of running text; texts are joined by the end token and cut into blocks."""

    target: ClassVar[Target] = "none"
    has_new_head: ClassVar[bool] = False

    def load_model(
        self,
        path: Path,
        labels: tuple[str, ...],
        tokenizer: PreTrainedTokenizerBase,
        *,
        seed: int,
    ) -> PreTrainedModel:
        del labels, tokenizer
        model = load_pretrained(AutoModelForCausalLM, path, seed=seed)
        if _looks_ahead(model):
            raise UnsupportedModelError(
                f"{type(model).__name__} reads a text in both directions: it cannot continue one.",
                field="model",
                remedy="Use a generative model such as GPT-2 or Llama.",
            )
        return model

    def encode(
        self, rows: Iterable[Row], labels: tuple[str, ...], tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[Example]:
        del labels
        end, block = end_token(tokenizer), self.hyper.max_length
        pending: list[int] = []
        for row in rows:
            pending += [*plain_tokens(tokenizer, row.cells["text"]), end]
            whole = len(pending) - len(pending) % block
            for start in range(0, whole, block):
                yield Example(np.array(pending[start : start + block], np.int32), target=0)
            del pending[:whole]
        # A last token alone has nothing to predict.
        if len(pending) > 1:
            yield Example(tokens=np.array(pending, np.int32), target=0)

    def logits(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        logits_BTC: Tensor = model(**batch.inputs()).logits
        return logits_BTC.float()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        losses_BT, counted_BT = _token_losses(logits, batch)
        return losses_BT.sum() / counted_BT.sum().clamp(min=1)

    def evaluate(
        self,
        model: PreTrainedModel,
        examples: Examples,
        tokenizer: PreTrainedTokenizerBase,
        rows: Iterable[Row] = (),
    ) -> Scored:
        del rows
        nll, tokens = self._likelihoods(model, examples, tokenizer)
        return Scored(perplexity_scores(nll, tokens), METRICS["perplexity"].sample(nll, tokens))

    def sample(
        self,
        model: PreTrainedModel,
        examples: Examples,
        tokenizer: PreTrainedTokenizerBase,
        rows: Iterable[Row] = (),
    ) -> Sample:
        del rows
        return METRICS["perplexity"].sample(*self._likelihoods(model, examples, tokenizer))

    @torch.inference_mode()
    def _likelihoods(
        self, model: PreTrainedModel, examples: Examples, tokenizer: PreTrainedTokenizerBase
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each example's −log p in nats, and how many of its tokens were predicted."""
        was_training = model.training
        model.eval()
        nll, tokens = np.zeros(len(examples)), np.zeros(len(examples))
        collate = Collator.of(tokenizer, model.config)
        for host in evaluation_batches(examples, batch_size=self.batch_size, collate=collate):
            batch = host.to(model.device)
            losses_BT, counted_BT = _token_losses(self.logits(model, batch), batch)
            rows = host.rows.numpy()
            nll[rows] = losses_BT.sum(1).double().cpu().numpy()
            tokens[rows] = counted_BT.sum(1).cpu().numpy()
        model.train(was_training)
        return nll, tokens


class DataToText(CausalLM):
    """The completion of a prompt; the loss is the completion's alone (PST paper, section 4)."""

    def encode(
        self, rows: Iterable[Row], labels: tuple[str, ...], tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[Example]:
        del labels
        end = end_token(tokenizer)
        for row in rows:
            prompt = [*plain_tokens(tokenizer, row.cells["prompt"]), end]
            completion = [*plain_tokens(tokenizer, row.cells["completion"]), end]
            # The prompt's beginning goes first, the completion's end last.
            prompt = prompt[-max(1, self.hyper.max_length - len(completion)) :]
            tokens = (prompt + completion)[: self.hyper.max_length]
            yield Example(tokens=np.array(tokens, np.int32), target=len(prompt))

    def evaluate(
        self,
        model: PreTrainedModel,
        examples: Examples,
        tokenizer: PreTrainedTokenizerBase,
        rows: Iterable[Row] = (),
    ) -> Scored:
        nll, tokens = self._likelihoods(model, examples, tokenizer)
        likelihood = perplexity_scores(nll, tokens)
        if self.metrics[0] == "perplexity":
            return Scored(likelihood, METRICS["perplexity"].sample(nll, tokens))
        references = _by_prompt(rows)
        written = self.write(model, list(references), tokenizer)
        text = text_scores(written, list(references.values()))
        both = text.metrics | likelihood.metrics
        scores = Scores(primary="bleu", metrics=both, rows=len(written), constant=None)
        return Scored(scores, bleu(written, list(references.values())))

    def sample(
        self,
        model: PreTrainedModel,
        examples: Examples,
        tokenizer: PreTrainedTokenizerBase,
        rows: Iterable[Row] = (),
    ) -> Sample:
        if self.metrics[0] == "perplexity":
            return super().sample(model, examples, tokenizer)
        references = _by_prompt(rows)
        written = self.write(model, list(references), tokenizer)
        return bleu(written, list(references.values()))

    @torch.inference_mode()
    def write(
        self, model: PreTrainedModel, prompts: Sequence[str], tokenizer: PreTrainedTokenizerBase
    ) -> list[str]:
        """A completion of each prompt, by beam search."""
        was_training, settings = model.training, model.generation_config
        model.eval()
        # Or what stands in the model's own would fill in what is not said here.
        model.generation_config = GenerationConfig()
        room = max(1, self.hyper.max_length - self.hyper.max_new_tokens)
        end, written = end_token(tokenizer), [""] * len(prompts)
        encoded = [[*plain_tokens(tokenizer, prompt), end][-room:] for prompt in prompts]
        # Prompts of like lengths together, for the padding's sake.
        order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            ids_BT, mask_BT = _padded_left([encoded[index] for index in chosen], end)
            # What is generated begins behind the longest prompt of its batch.
            longest = ids_BT.shape[1]
            out_BT: Tensor = cast("Any", model).generate(
                ids_BT.to(model.device),
                attention_mask=mask_BT.to(model.device),
                num_beams=self.hyper.beams,
                max_new_tokens=min(self.hyper.max_new_tokens, _positions(model) - longest),
                do_sample=False,
                eos_token_id=end,
                pad_token_id=end,
            )
            texts = tokenizer.batch_decode(out_BT[:, longest:], skip_special_tokens=True)
            for index, text in zip(chosen, texts, strict=True):
                written[index] = text.strip()
        model.generation_config = settings
        model.train(was_training)
        return written


def _by_prompt(rows: Iterable[Row]) -> dict[str, list[str]]:
    """The completions of each prompt: rows that share one are its references."""
    references: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        references[row.cells["prompt"]].append(row.cells["completion"].strip())
    return references


def _padded_left(sequences: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, B×T: generation goes on at the right."""
    longest = max(len(sequence) for sequence in sequences)
    ids_BT = torch.tensor([[pad] * (longest - len(each)) + list(each) for each in sequences])
    lengths_B1 = torch.tensor([[len(each)] for each in sequences])
    return ids_BT, (torch.arange(longest) >= longest - lengths_B1).long()


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    if tokenizer.eos_token_id is None:
        raise UnsupportedModelError(
            "The tokenizer has no end-of-text token, which separates texts.",
            field="model",
            remedy="Use a generative model such as GPT-2 or Llama.",
        )
    return int(tokenizer.eos_token_id)


@torch.inference_mode()
def _looks_ahead(model: PreTrainedModel) -> bool:
    """Whether a token changes what is said about the one before it, as in an encoder."""
    ids_BT = torch.tensor([[1, 1], [1, 2]], device=model.device)
    first_BC = model(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT)).logits[:, 0]
    return not torch.allclose(first_BC[0], first_BC[1], rtol=1e-4, atol=1e-5)


def plain_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokens


def _positions(model: PreTrainedModel) -> int:
    return int(getattr(model.config, "max_position_embeddings", sys.maxsize))


def _token_losses(logits_BTC: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """−log p of each token given those before it, and which count: B × (T − 1) each."""
    next_BT = batch.input_ids[:, 1:]
    losses_BT = nn.functional.cross_entropy(
        logits_BTC[:, :-1].transpose(1, 2), next_BT, reduction="none"
    )
    place_T = torch.arange(1, batch.input_ids.shape[1], device=next_BT.device)
    counted_BT = batch.attention_mask[:, 1:].bool() & (place_T >= batch.targets[:, None])
    return losses_BT * counted_BT, counted_BT
