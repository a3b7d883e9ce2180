"""Adapters over real models: whatever way the base comes, the dense model is the same."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
)

import pst_core
from pst_core.adapters import load_adapter, rebuild
from pst_core.errors import (
    BaseMismatchError,
    CheckpointCorruptError,
    ModelNotFoundError,
)
from pst_core.formats.adapter import WEIGHTS
from pst_core.formats.manifest import write_sealed
from pst_core.pretrained import model_class
from tests.pst_core import finished, tiny
from tests.pst_core.exports import sha256s
from tests.pst_core.finished import BASES, Finished

each_base = pytest.mark.parametrize("done", BASES, indirect=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """One of each; tests that change one copy it."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        name: finished.finish(save(folder / name / "base"), task, folder / name)
        for name, (save, task) in BASES.items()
    }


@pytest.fixture
def done(made: dict[str, Finished], request: pytest.FixtureRequest) -> Finished:
    return made[getattr(request, "param", "bert")]


@pytest.fixture
def other(done: Finished, tmp_path: Path) -> Finished:
    """Another training over the same BERT."""
    return finished.finish(done.base, "text-classification", tmp_path / "other", seed=1)


def same(model: PreTrainedModel, other: PreTrainedModel) -> bool:
    mine, others = model.state_dict(), other.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[n], others[n]) for n in mine)


def rebuilt(done: Finished, base: Path, out: Path) -> bool:
    """Whether the dense folder comes back, every file of it."""
    rebuild(done.adapter, base, out)
    return sha256s(out) == sha256s(done.dense)


@each_base
def test_the_dense_folder_comes_back_file_by_file(done: Finished, tmp_path: Path) -> None:
    assert rebuilt(done, done.base, tmp_path / "out")


@each_base
def test_an_adapter_loads_as_the_dense_folder_does(done: Finished) -> None:
    model, tokenizer = load_adapter(done.adapter, done.base)
    dense, dense_tokenizer = pst_core.load(done.dense)
    assert type(model) is type(dense)
    assert same(model, dense)
    inputs = tokenizer("a fine film", return_tensors="pt")
    assert inputs["input_ids"].tolist() == [dense_tokenizer("a fine film")["input_ids"]]
    with torch.inference_mode():
        assert torch.equal(model(**inputs).logits, dense(**inputs).logits)


@each_base
def test_what_loads_is_in_evaluation_mode_and_trainable(done: Finished) -> None:
    model, _ = load_adapter(done.adapter, done.base)
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_tied_head_stays_tied(made: dict[str, Finished]) -> None:
    model, _ = load_adapter(made["llama"].adapter, made["llama"].base)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("done", ["gpt2"], indirect=True)
def test_how_texts_are_generated_comes_along(done: Finished, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(done.adapter, tmp_path / "adapter"))
    path = copy / "generation_config.json"
    path.write_text(json.dumps({"max_new_tokens": 7}), encoding="utf-8")
    assert load_adapter(copy, done.base)[0].generation_config.max_new_tokens == 7


def test_the_tensors_of_the_base_are_not_stored(done: Finished) -> None:
    names = load_file(done.adapter / WEIGHTS).keys()
    assert "bert.embeddings.word_embeddings.weight" not in names
    assert "classifier.weight" in names


def test_a_base_in_shards_will_do(done: Finished, tmp_path: Path) -> None:
    BertModel.from_pretrained(done.base).save_pretrained(tmp_path / "base", max_shard_size="20KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    assert rebuilt(done, tmp_path / "base", tmp_path / "out")


def test_a_base_with_a_head_of_its_own_will_do(done: Finished, tmp_path: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(done.base, num_labels=3)
    model.save_pretrained(tmp_path / "base")
    assert "bert.pooler.dense.weight" in load_file(tmp_path / "base" / "model.safetensors")
    assert rebuilt(done, tmp_path / "base", tmp_path / "out")


def test_a_base_that_lacked_what_was_trained_will_do(tmp_path: Path) -> None:
    """Its pooler started at random, and so the adapter holds it."""
    base = tiny.save_model(tmp_path / "base")
    BertModel.from_pretrained(base, add_pooling_layer=False).save_pretrained(base)
    assert "pooler.dense.weight" not in load_file(base / "model.safetensors")
    done = finished.finish(base, "text-classification", tmp_path)
    assert rebuilt(done, base, tmp_path / "out")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_base_in_half_precision_was_trained_in_full(tmp_path: Path, dtype: torch.dtype) -> None:
    base = tiny.save_model(tmp_path / "base")
    BertModel.from_pretrained(base, dtype=dtype).save_pretrained(base)
    done = finished.finish(base, "text-classification", tmp_path)
    assert rebuilt(done, base, tmp_path / "out")
    assert same(load_adapter(done.adapter, base)[0], pst_core.load(done.dense)[0])
    # As it comes when nobody asks for float32.
    held = AutoModel.from_pretrained(base)
    assert held.dtype == dtype
    assert same(load_adapter(done.adapter, held)[0], pst_core.load(done.dense)[0])


def test_a_gguf_base_will_do(tmp_path: Path) -> None:
    words = tiny.save_language_model(tmp_path / "words")
    base = finished.save_gguf_llama(tmp_path / "base.gguf")
    done = finished.finish(base, "causal-lm", tmp_path, words=words)
    assert "model.embed_tokens.weight" not in load_file(done.adapter / WEIGHTS)
    assert rebuilt(done, base, tmp_path / "out")
    assert same(load_adapter(done.adapter, base)[0], pst_core.load(done.dense)[0])


@each_base
def test_a_loaded_model_is_as_good_as_its_folder(done: Finished) -> None:
    base = model_class(done.base).from_pretrained(done.base)
    assert same(load_adapter(done.adapter, base)[0], pst_core.load(done.dense)[0])


def test_several_adapters_share_one_loaded_base(done: Finished, other: Finished) -> None:
    base = AutoModel.from_pretrained(done.base)
    for each in (done, other, done):
        assert same(load_adapter(each.adapter, base)[0], pst_core.load(each.dense)[0])
    assert same(base, AutoModel.from_pretrained(done.base))


def test_training_what_was_loaded_does_not_disturb_the_base(done: Finished) -> None:
    base = AutoModel.from_pretrained(done.base)
    model, _ = load_adapter(done.adapter, base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert same(base, AutoModel.from_pretrained(done.base))


def test_training_the_base_does_not_disturb_what_was_loaded(done: Finished) -> None:
    base = AutoModel.from_pretrained(done.base)
    model, _ = load_adapter(done.adapter, base)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.zero_()
    assert same(model, pst_core.load(done.dense)[0])


def test_a_base_of_the_same_shape_and_other_weights_is_refused(
    done: Finished, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(done.base, tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][3, 3] += 1e-6
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseMismatchError, match=finished.REFERENCE):
        load_adapter(done.adapter, base)
    with pytest.raises(BaseMismatchError, match=finished.REFERENCE):
        rebuild(done.adapter, base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_base_of_another_size_is_refused(done: Finished, tmp_path: Path) -> None:
    BertModel(tiny.bert_config(layers=1)).save_pretrained(tmp_path / "base")
    with pytest.raises(BaseMismatchError, match=finished.REFERENCE):
        load_adapter(done.adapter, tmp_path / "base")


def test_a_base_of_another_architecture_is_refused_before_it_is_built(
    done: Finished, made: dict[str, Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", None)
    with pytest.raises(BaseMismatchError, match=r"type gpt2; .* made from a bert"):
        load_adapter(done.adapter, made["gpt2"].base)


def test_an_altered_file_beside_the_weights_is_refused_by_its_manifest(
    done: Finished, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(done.adapter, tmp_path / "adapter"))
    entry = {"size": 1, "sha256": "0" * 64}
    write_sealed(copy / "pst.json", {"files": {"config.json": entry}})
    with pytest.raises(CheckpointCorruptError, match=r"config\.json"):
        load_adapter(copy, done.base)
    with pytest.raises(CheckpointCorruptError, match=r"config\.json"):
        rebuild(copy, done.base, tmp_path / "out")


def test_a_model_larger_than_its_tensors_is_refused(done: Finished, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(done.adapter, tmp_path / "adapter"))
    config = json.loads((copy / "config.json").read_bytes())
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(CheckpointCorruptError, match=r"lacks the tensors .*layer\.2"):
        load_adapter(copy, done.base)


def test_a_folder_without_an_adapter_is_no_adapter(done: Finished) -> None:
    with pytest.raises(ModelNotFoundError, match="no adapter"):
        load_adapter(done.dense, done.base)


def test_a_base_that_is_not_there_is_not_looked_for_elsewhere(done: Finished) -> None:
    with pytest.raises(ModelNotFoundError, match="absent"):
        load_adapter(done.adapter, done.base / "absent")
