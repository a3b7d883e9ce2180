"""`pst_core.load` opens what is whole and known, and says what is wrong with the rest."""

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

import pst_core
from pst_core.errors import (
    CheckpointCorruptError,
    CheckpointVersionError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from pst_core.formats import packed
from pst_core.formats.manifest import write_sealed

PRUNED = "bert.encoder.layer.0.output.dense.weight"


def save_dense(folder: Path) -> None:
    config = BertConfig(
        hidden_size=32,
        intermediate_size=64,
        max_position_embeddings=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        vocab_size=100,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({"good": 1, "film": 2}))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


@pytest.fixture
def dense_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "dense"
    save_dense(folder)
    weights = load_file(folder / "model.safetensors")
    weights[PRUNED] = torch.where(torch.from_numpy(mask()), weights[PRUNED], 0.0)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def packed_dir(dense_dir: Path) -> Path:
    packed.write_packed(dense_dir, {PRUNED: mask()}, dense_dir.with_name("packed"))
    return dense_dir.with_name("packed")


def mask() -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.random.default_rng(0).random((32, 64)) < 0.1


def write_manifest(folder: Path) -> None:
    files = {
        path.name: {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in folder.iterdir()
    }
    write_sealed(folder / "pst.json", {"files": files})


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")


def flip_a_value(folder: Path, name: str) -> None:
    """Change one bit of a tensor as stored, leaving the file well-formed."""
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    begin, end = json.loads(data[8 : 8 + length])[name]["data_offsets"]
    data[8 + length + (begin + end) // 2] ^= 1
    path.write_bytes(data)


def test_packed_and_dense_load_as_the_same_model(dense_dir: Path, packed_dir: Path) -> None:
    dense, _ = pst_core.load(dense_dir)
    loaded, _ = pst_core.load(packed_dir)
    state = loaded.state_dict()
    assert state.keys() == dense.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in dense.state_dict().items())


def test_the_class_is_the_one_that_the_config_names(packed_dir: Path) -> None:
    assert type(pst_core.load(packed_dir)[0]) is BertForSequenceClassification


def test_the_model_is_in_evaluation_mode(packed_dir: Path) -> None:
    assert not pst_core.load(packed_dir)[0].training


def test_the_tokenizer_comes_along(packed_dir: Path) -> None:
    tokenizer = pst_core.load(packed_dir)[1]
    assert tokenizer("good film")["input_ids"] == [1, 2]


def test_a_path_may_be_a_string(packed_dir: Path) -> None:
    assert pst_core.load(str(packed_dir))[0] is not None


def test_a_folder_that_its_manifest_describes_loads(packed_dir: Path) -> None:
    write_manifest(packed_dir)
    assert pst_core.load(packed_dir)[0] is not None


@pytest.mark.parametrize("name", ["bert.embeddings.word_embeddings.weight", PRUNED])
def test_one_flipped_bit_of_a_value_is_refused_with_the_file(packed_dir: Path, name: str) -> None:
    write_manifest(packed_dir)
    flip_a_value(packed_dir, name)
    with pytest.raises(CheckpointCorruptError, match=r"model\.safetensors is altered"):
        pst_core.load(packed_dir)


def test_an_altered_tokenizer_is_refused_with_the_file(packed_dir: Path) -> None:
    write_manifest(packed_dir)
    path = packed_dir / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("good", "evil"), encoding="utf-8")
    with pytest.raises(CheckpointCorruptError, match=r"tokenizer\.json is altered"):
        pst_core.load(packed_dir)


def test_a_file_of_another_size_is_refused_with_both_sizes(packed_dir: Path) -> None:
    write_manifest(packed_dir)
    path = packed_dir / "tokenizer.json"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointCorruptError, match=rf"has {size - 1} bytes.*says {size}"):
        pst_core.load(packed_dir)


def test_a_missing_file_is_refused_with_its_name(packed_dir: Path) -> None:
    write_manifest(packed_dir)
    (packed_dir / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointCorruptError, match=r"tokenizer_config\.json is missing"):
        pst_core.load(packed_dir)


@pytest.mark.parametrize("name", ["../dense/config.json", "/etc/hostname"])
def test_a_manifest_that_points_out_of_the_folder_is_refused(packed_dir: Path, name: str) -> None:
    write_sealed(packed_dir / "pst.json", {"files": {name: {"sha256": "", "size": 0}}})
    with pytest.raises(CheckpointCorruptError, match="malformed entry"):
        pst_core.load(packed_dir)


@pytest.mark.parametrize("text", ["", "[]", '{"files": {}}'])
def test_a_manifest_that_is_not_ours_is_refused(packed_dir: Path, text: str) -> None:
    (packed_dir / "pst.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointCorruptError, match=r"pst\.json"):
        pst_core.load(packed_dir)


@pytest.mark.parametrize("files", [[], {"config.json": 1}])
def test_a_malformed_manifest_is_refused(packed_dir: Path, files: object) -> None:
    write_sealed(packed_dir / "pst.json", {"files": files})
    with pytest.raises(CheckpointCorruptError, match=r"pst\.json"):
        pst_core.load(packed_dir)


def test_a_manifest_without_hashes_is_no_obstacle(packed_dir: Path) -> None:
    write_sealed(packed_dir / "pst.json", {"version": 1})
    assert pst_core.load(packed_dir)[0] is not None


def test_a_damaged_blob_is_refused_with_tensor_and_file_without_a_manifest(
    packed_dir: Path,
) -> None:
    flip_a_value(packed_dir, PRUNED)
    with pytest.raises(CheckpointCorruptError, match=rf"{PRUNED} in model\.safetensors"):
        pst_core.load(packed_dir)


def test_a_missing_tensor_is_refused_not_made_up(packed_dir: Path) -> None:
    weights = load_file(packed_dir / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, packed_dir / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointCorruptError, match=r"lacks the tensors \['classifier\.weight'\]"):
        pst_core.load(packed_dir)


def test_a_newer_folder_is_told_from_damage(packed_dir: Path) -> None:
    edit_config(packed_dir, quantization_config={"quant_method": "pst-packed", "version": 3})
    with pytest.raises(CheckpointVersionError, match="version 3"):
        pst_core.load(packed_dir)


@pytest.mark.parametrize("architectures", [["MyBert"], ["modeling_utils"], [], None, [7], "Bert"])
def test_a_class_that_transformers_lacks_is_refused(
    packed_dir: Path, architectures: object
) -> None:
    edit_config(packed_dir, architectures=architectures)
    with pytest.raises(UnsupportedModelError):
        pst_core.load(packed_dir)


def test_code_beside_the_weights_is_not_run(packed_dir: Path) -> None:
    (packed_dir / "evil.py").write_text("raise SystemExit('it ran')\n", encoding="utf-8")
    edit_config(packed_dir, auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"})
    assert type(pst_core.load(packed_dir)[0]) is BertForSequenceClassification


def test_pickled_weights_are_not_opened(dense_dir: Path) -> None:
    (dense_dir / "model.safetensors").unlink()
    (dense_dir / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(OSError, match="safetensors"):
        pst_core.load(dense_dir)


def test_a_name_that_is_no_folder_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="absent"):
        pst_core.load(tmp_path / "absent")
