"""A classifier that brings a trained head: which of its outputs becomes which label's."""

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, RobertaConfig, RobertaForSequenceClassification

from pst_core.pretrained import load_tokenizer
from tests.pst_core import tiny
from tests.pst_core.families import FAMILIES

TASK = tiny.task("text-classification")
CLASSIFIERS = ("bert", "roberta", "electra", "distilbert", "gpt2-classifier", "modernbert")
LABELS = ("bad", "fair", "good")
IDS = torch.arange(4, 12)[None]


def save_classifier(folder: Path, names: Sequence[str], *, family: str = "bert") -> PreTrainedModel:
    """A model with outputs of these names, in a folder."""
    config = copy.deepcopy(FAMILIES[family].config)
    config.id2label = dict(enumerate(names))
    torch.manual_seed(0)
    model: PreTrainedModel = FAMILIES[family].model_class(config).eval()
    model.save_pretrained(folder)
    tiny.save_tokenizer(folder, ends=True)
    return model


def load(folder: Path, labels: tuple[str, ...], *, seed: int = 0) -> PreTrainedModel:
    tokenizer = load_tokenizer(folder, max_length=16)
    model: PreTrainedModel = TASK.load_model(folder, labels, tokenizer, seed=seed).eval()
    return model


def outputs(model: PreTrainedModel) -> list[float]:
    found: list[float] = model(input_ids=IDS).logits[0].tolist()
    return found


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_outputs_of_the_same_names_are_put_into_the_labels_order(
    family: str, tmp_path: Path
) -> None:
    bad, fair, good = outputs(save_classifier(tmp_path, LABELS, family=family))
    model = load(tmp_path, ("fair", "good", "bad"))
    assert outputs(model) == pytest.approx([fair, good, bad], abs=1e-5)
    assert model.config.id2label == {0: "fair", 1: "good", 2: "bad"}


def test_names_may_differ_in_upper_and_lower_case(tmp_path: Path) -> None:
    positive, negative = outputs(save_classifier(tmp_path, ("POSITIVE", "NEGATIVE")))
    assert outputs(load(tmp_path, ("negative", "positive"))) == pytest.approx(
        [negative, positive], abs=1e-5
    )


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("LABEL_0", "LABEL_1", "LABEL_2"), LABELS),
        (("LABEL_0", "LABEL_1", "LABEL_2"), ("0", "1", "2")),
        (LABELS, ("-1", "0", "1")),
    ],
)
def test_numbers_are_matched_by_their_order(
    names: tuple[str, ...], labels: tuple[str, ...], tmp_path: Path
) -> None:
    before = outputs(save_classifier(tmp_path, names))
    assert outputs(load(tmp_path, labels)) == pytest.approx(before, abs=1e-5)


def test_for_other_names_the_output_layer_starts_at_random_by_the_seed(tmp_path: Path) -> None:
    original = save_classifier(tmp_path, ("contradiction", "entailment", "neutral"))
    models = [load(tmp_path, LABELS, seed=seed) for seed in (1, 1, 2)]
    weights = [model.get_parameter("classifier.weight") for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], original.get_parameter("classifier.weight"))
    assert weights[0].std().item() == pytest.approx(original.config.initializer_range, rel=0.3)
    assert not models[0].get_parameter("classifier.bias").any()


@pytest.mark.parametrize("labels", [("fair", "good", "bad"), ("x", "y", "z")])
def test_only_the_output_layer_is_touched(labels: tuple[str, ...], tmp_path: Path) -> None:
    # As wide as it has outputs, so that other layers have as many.
    config = RobertaConfig(
        hidden_size=3, num_attention_heads=1, num_hidden_layers=1, intermediate_size=4,
        vocab_size=20, max_position_embeddings=34, id2label=dict(enumerate(LABELS)),
    )  # fmt: skip
    original = RobertaForSequenceClassification(config)
    original.save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path, ends=True)
    found = load(tmp_path, labels).state_dict()
    changed = {
        name for name, old in original.state_dict().items() if not torch.equal(found[name], old)
    }
    assert changed <= {"classifier.out_proj.weight", "classifier.out_proj.bias"}
    assert "classifier.out_proj.weight" in changed
