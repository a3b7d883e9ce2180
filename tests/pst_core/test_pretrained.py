"""What may start a compression: complete encoders, with a head of ours or a new one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification, PreTrainedModel, RobertaConfig

from pst_core.errors import UnsupportedModelError
from pst_core.pretrained import load_tokenizer
from pst_core.spec import CompressionSpec
from pst_core.tasks import make_task
from tests.pst_core.tiny import bert_config, save_language_model, save_model

SPEC = {"model": "pkg:m", "dataset": "pkg:d", "sparsity": 0.5}


def load_classifier(folder: Path, labels: tuple[str, ...], *, seed: int) -> PreTrainedModel:
    task = make_task(CompressionSpec.model_validate(SPEC))
    return task.load_model(folder, labels, load_tokenizer(folder, max_length=16), seed=seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model")


def refusal(folder: Path) -> UnsupportedModelError:
    with pytest.raises(UnsupportedModelError) as caught:
        load_classifier(folder, ("a", "b"), seed=0)
    return caught.value


def test_a_new_head_depends_on_the_seed_alone(folder: Path) -> None:
    first, again, other = (load_classifier(folder, ("a", "b"), seed=s) for s in (1, 1, 2))

    weights = [model.state_dict()["classifier.weight"] for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_head_for_other_labels_is_replaced_and_the_rest_kept(tmp_path: Path) -> None:
    config = bert_config()
    config.num_labels = 5
    original = BertForSequenceClassification(config)
    original.save_pretrained(tmp_path)

    model = load_classifier(tmp_path, ("a", "b", "c"), seed=0)

    assert model.state_dict()["classifier.weight"].shape == (3, 32)
    for name, tensor in original.bert.state_dict().items():
        assert torch.equal(model.state_dict()[f"bert.{name}"], tensor)


def test_weights_missing_outside_the_head_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    assert "encoder.layer.0.output.dense.weight" in refusal(folder).message


def test_weights_of_another_shape_outside_the_head_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"] = torch.zeros(5)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    assert "encoder.layer.0.output.dense.bias" in refusal(folder).message


def test_a_corrupt_weight_file_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)

    assert refusal(folder).field == "model"


def test_pickled_weights_are_not_opened(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    assert refusal(folder).field == "model"


def test_code_that_comes_with_a_model_is_not_run(folder: Path) -> None:
    canary = folder / "canary"
    (folder / "modeling.py").write_text(f"open({str(canary)!r}, 'w')")
    config = json.loads((folder / "config.json").read_bytes())
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling.Model"}
    config["model_type"] = "of-their-own"
    (folder / "config.json").write_text(json.dumps(config))

    assert refusal(folder).field == "model"
    assert not canary.exists()


def test_texts_longer_than_the_model_has_positions_are_refused(folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="130 positions") as caught:
        load_tokenizer(folder, max_length=131)

    assert caught.value.field == "hyperparameters.max_length"
    assert load_tokenizer(folder, max_length=130).pad_token == "[PAD]"


def test_roberta_has_fewer_positions_than_its_config_says(folder: Path) -> None:
    config = RobertaConfig(max_position_embeddings=34, pad_token_id=1, vocab_size=20)
    config.save_pretrained(folder)

    with pytest.raises(UnsupportedModelError, match="32 positions"):
        load_tokenizer(folder, max_length=33)


def test_an_encoder_is_no_language_model(folder: Path) -> None:
    task = make_task(CompressionSpec.model_validate(SPEC | {"task": "causal-lm"}))
    with pytest.raises(UnsupportedModelError) as caught:
        task.load_model(folder, (), load_tokenizer(folder, max_length=16), seed=0)

    assert caught.value.field == "model"


def test_a_decoder_without_a_padding_token_pads_with_its_end(tmp_path: Path) -> None:
    folder = save_language_model(tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))

    tokenizer = load_tokenizer(folder, max_length=16)
    assert tokenizer.pad_token == tokenizer.eos_token == "[SEP]"
    assert load_classifier(folder, ("a", "b"), seed=0).config.pad_token_id == tokenizer.eos_token_id
