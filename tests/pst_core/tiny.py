"""Models and data so small that a test compresses in a second; random, but learnable."""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from pst_core.batches import Batch, Collator, Example, Examples, training_batches
from pst_core.convert import Converted, Pruning, convert
from pst_core.dataset_spec import Role
from pst_core.prepare import Sources
from pst_core.pretrained import load_tokenizer
from pst_core.recipes import Hyperparameters
from pst_core.references import DataSource
from pst_core.rows import Row
from pst_core.spec import CompressionSpec
from pst_core.tasks import Task, make_task

# A second thread costs these matrices more than it gives, most of all on a busy machine.
torch.set_num_threads(1)

GOOD = ("fine", "lovely", "superb")
BAD = ("awful", "dull", "poor")
FILLER = ("a", "actor", "and", "film", "it", "plot", "scene", "the", "was", "with")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
VOCABULARY = {word: number for number, word in enumerate((*SPECIAL, *GOOD, *BAD, *FILLER))}


def bert_config(*, layers: int = 2) -> BertConfig:
    return BertConfig(
        hidden_size=32,
        # Ten times the usual: random blocks that mix tokens enough for a text to be told by them.
        initializer_range=0.2,
        intermediate_size=48,
        max_position_embeddings=130,
        num_attention_heads=2,
        num_hidden_layers=layers,
        vocab_size=len(VOCABULARY),
    )


def classifier(*, seed: int = 0, layers: int = 1) -> PreTrainedModel:
    torch.manual_seed(seed)
    return BertForSequenceClassification(bert_config(layers=layers))


def pst_classifier(hyper: Hyperparameters, *, seed: int = 0) -> tuple[PreTrainedModel, Converted]:
    model = classifier(seed=seed)
    return model, convert(model, Pruning(method="pst"), hyper)


def save_tokenizer(
    folder: Path, *, ends: bool, segments: bool = False, pad: str | None = "[PAD]"
) -> None:
    """Words as tokens; with [CLS] and [SEP] around each text, or a [SEP] that ends it on demand.

    Args:
        folder: Where to.
        ends: Whether a text gets [CLS] and [SEP].
        segments: Whether the model is to be told first and second texts apart, as BERT's.
        pad: The padding token; None: there is none.
    """
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token=SPECIAL[1]))
    tokenizer.pre_tokenizer = Whitespace()
    names: dict[str, Any] = {"pad_token": pad, "unk_token": "[UNK]", "eos_token": "[SEP]"}
    if segments:
        names["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    if ends:
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(name, VOCABULARY[name]) for name in ("[CLS]", "[SEP]")],
        )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def language_model(*, layers: int = 2) -> PreTrainedModel:
    """A GPT-2 with a tied head."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_embd=32, n_layer=layers, n_head=2, n_positions=64, vocab_size=len(VOCABULARY),
        bos_token_id=VOCABULARY["[SEP]"], eos_token_id=VOCABULARY["[SEP]"], initializer_range=0.2,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def llama(**changes: float) -> PreTrainedModel:
    """A Llama with a head of its own."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        vocab_size=len(VOCABULARY), max_position_embeddings=64, tie_word_embeddings=False,
        attention_dropout=changes.get("attention_dropout", 0.0),
    )  # fmt: skip
    return LlamaForCausalLM(config)


def save_language_model(folder: Path) -> Path:
    """That GPT-2, and its tokenizer."""
    language_model().save_pretrained(folder)
    save_tokenizer(folder, ends=False)
    return folder


def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(folder, max_length=64)


def save_model(folder: Path) -> Path:
    """A pretrained-looking folder: a base model without a task head, and its tokenizer."""
    torch.manual_seed(0)
    BertModel(bert_config()).save_pretrained(folder)
    save_tokenizer(folder, ends=True, segments=True)
    return folder


def toy_rows(count: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Texts of filler and one word that decides the label."""
    generator = random.Random(seed)
    rows = []
    for number in range(count):
        label, words = (("pos", GOOD), ("neg", BAD))[number % 2]
        filler = generator.choices(FILLER, k=generator.randint(1, 6))
        text = [*filler, generator.choice(words)]
        generator.shuffle(text)
        rows.append((" ".join(text), label))
    return rows


def save_csv(
    path: Path, rows: Iterable[Sequence[str]], *, columns: Sequence[str] = ("text", "label")
) -> Path:
    lines = [",".join(cells) for cells in (columns, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def sources(folder: Path) -> Sources:
    """A model and toy data, made in a folder."""
    data = save_csv(folder / "toy.csv", toy_rows(240))
    return Sources(model=save_model(folder / "model"), dataset=DataSource(path=data))


def spec_document(folder: Path, **changes: object) -> dict[str, object]:
    """A spec of what `sources` makes: 80 steps, 10 an epoch."""
    return {
        "model": f"file:{folder / 'model'}",
        "dataset": {
            "ref": f"file:{folder / 'toy.csv'}",
            "splits": {"train": 160, "validation": 30, "test": 40},
        },
        "sparsity": 0.5,
        "preset": "paper",
        "hyperparameters": {
            "epochs": 8,
            "batch_size": 16,
            "learning_rate": 5e-3,
            "head_learning_rate": 5e-3,
            "dense_learning_rate": 5e-3,
            "rank": 2,
            "score_rank": 2,
        },
    } | changes


def spec(folder: Path, **changes: object) -> CompressionSpec:
    # Through JSON, as every spec arrives.
    return CompressionSpec.model_validate_json(json.dumps(spec_document(folder, **changes)))


def task(name: str, **changes: object) -> Task:
    """A task by its name; `changes` are those of the spec."""
    document = {"model": "pkg:m", "dataset": "pkg:d", "sparsity": 0.5, "task": name}
    return make_task(CompressionSpec.model_validate(document | changes))


def rows(*cells: Mapping[str, str]) -> list[Row]:
    return [
        Row(cast("Mapping[Role, str]", each), f"row {number}") for number, each in enumerate(cells)
    ]


def random_examples(*, seed: int = 0) -> Examples:
    """Random tokens, of two classes in turn."""
    generator = random.Random(seed)
    return Examples.collect(
        Example(
            np.array(
                generator.choices(range(4, len(VOCABULARY)), k=generator.randint(3, 9)), np.int32
            ),
            number % 2,
        )
        for number in range(32)
    )


def random_batches(*, seed: int = 0, batch_size: int = 8) -> Iterator[Batch]:
    """Endless batches of them."""
    return training_batches(
        random_examples(seed=seed),
        batch_size=batch_size,
        seed=seed,
        collate=Collator(pad_token=0, token_types=False),
    )


def state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A copy of every weight."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
