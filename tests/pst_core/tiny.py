"""Models and data so small that a test compresses in a second; random, but learnable."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from pst_core.batches import Batch, Example, training_batches
from pst_core.compress import Sources
from pst_core.convert import convert
from pst_core.layers import PSTLinear
from pst_core.references import DataSource
from pst_core.spec import CompressionSpec, Hyperparameters

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


def pst_classifier(
    hyperparameters: Hyperparameters, *, seed: int = 0
) -> tuple[PreTrainedModel, dict[str, PSTLinear]]:
    model = classifier(seed=seed)
    return model, convert(model, hyperparameters)


def save_model(folder: Path) -> Path:
    """A pretrained-looking folder: a base model without a task head, and its tokenizer."""
    torch.manual_seed(0)
    BertModel(bert_config()).save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token=SPECIAL[1]))
    tokenizer.pre_tokenizer = Whitespace()
    ends = [(name, VOCABULARY[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
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


def save_csv(path: Path, rows: list[tuple[str, str]]) -> Path:
    lines = ["text,label", *(f"{text},{label}" for text, label in rows)]
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


def random_batches(*, seed: int = 0, batch_size: int = 8) -> Iterator[Batch]:
    """Endless batches of random tokens and labels."""
    generator = random.Random(seed)
    examples = [
        Example(
            tuple(generator.choices(range(4, len(VOCABULARY)), k=generator.randint(3, 9))), i % 2
        )
        for i in range(32)
    ]
    return training_batches(examples, batch_size=batch_size, seed=seed, pad_token=0)


def state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """A copy of every weight."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
