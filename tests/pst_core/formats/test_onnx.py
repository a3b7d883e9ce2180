"""An ONNX folder answers in ONNX Runtime as the dense one does in PyTorch."""

import importlib.util
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partialmethod
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import BertForSequenceClassification, PreTrainedModel

from pst_core.answers import compare_answers
from pst_core.batches import Batch, Collator, Example, Examples, evaluation_batches
from pst_core.errors import CheckpointCorruptError, NotInstalledError, UnsupportedModelError
from pst_core.formats.onnx import load_onnx, open_session, write_onnx
from pst_core.loading import load
from tests.pst_core import tiny

SENTENCES = (
    "fine",
    "the plot was dull and the actor was poor",
    "a superb film",
    "it was a lovely scene and a fine plot with the actor",
)


def classifier() -> PreTrainedModel:
    return tiny.classifier()


def regressor() -> PreTrainedModel:
    torch.manual_seed(0)
    config = tiny.bert_config(layers=1)
    config.num_labels = 1
    config.problem_type = "regression"
    # Stored in half the bytes, and written as float32 all the same.
    return BertForSequenceClassification(config).bfloat16()


def language_model() -> PreTrainedModel:
    return tiny.language_model(layers=1)


@dataclass(frozen=True)
class Exported:
    """A model in both formats, and padded batches of sentences for it."""

    dense: Path
    onnx: Path
    model: PreTrainedModel
    batches: list[Batch]


def export(folder: Path, build: Callable[[], PreTrainedModel]) -> Exported:
    dense = folder / "dense"
    build().save_pretrained(dense)
    tiny.save_tokenizer(dense, ends=True, segments=True)
    write_onnx(dense, folder / "onnx")
    model, tokenizer = load(dense)
    examples = Examples.collect(
        Example(np.array(tokenizer(sentence)["input_ids"], np.int32), 0) for sentence in SENTENCES
    )
    collate = Collator.of(tokenizer, model.config)
    batches = [
        batch
        for size in (1, 3)
        for batch in evaluation_batches(examples, batch_size=size, collate=collate)
    ]
    return Exported(dense, folder / "onnx", model.float(), batches)


def difference(folder: Path, model: PreTrainedModel, batches: Iterable[Batch]) -> float:
    return compare_answers(folder, load_onnx(folder), model, batches)


@pytest.fixture(scope="module")
def classification(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(tmp_path_factory.mktemp("classifier"), classifier)


@pytest.mark.parametrize("build", [regressor, language_model])
def test_logits_are_those_of_pytorch(tmp_path: Path, build: Callable[[], PreTrainedModel]) -> None:
    exported = export(tmp_path, build)

    assert difference(exported.onnx, exported.model, exported.batches) < 1e-5


def test_logits_of_classes_are_those_of_pytorch(classification: Exported) -> None:
    assert {batch.input_ids.shape for batch in classification.batches} == {
        (1, 14), (1, 11), (1, 5), (1, 3), (3, 14)
    }  # fmt: skip
    assert (
        compare_answers(
            classification.onnx,
            load_onnx(classification.onnx),
            classification.model,
            classification.batches,
        )
        < 1e-5
    )


def test_axes_and_names_are_told(classification: Exported) -> None:
    session = open_session(classification.onnx)

    found = {each.name: each.shape for each in (*session.get_inputs(), *session.get_outputs())}
    assert found == {
        "input_ids": ["batch", "sequence"],
        "attention_mask": ["batch", "sequence"],
        "token_type_ids": ["batch", "sequence"],
        "logits": ["batch", 2],
    }


def test_the_second_text_of_a_pair_is_told_apart(classification: Exported) -> None:
    (batch, *_) = classification.batches
    assert batch.token_type_ids is not None
    pair = replace(batch, token_type_ids=torch.ones_like(batch.token_type_ids))
    model = load_onnx(classification.onnx)

    assert not torch.equal(model(**batch.inputs()).logits, model(**pair.inputs()).logits)
    assert (
        compare_answers(
            classification.onnx, load_onnx(classification.onnx), classification.model, [pair]
        )
        < 1e-5
    )


def test_configuration_and_tokenizer_are_copied(classification: Exported) -> None:
    names = {path.name for path in classification.dense.iterdir()} - {"model.safetensors"}

    assert {path.name for path in classification.onnx.iterdir()} == names | {"model.onnx"}
    for name in names:
        copied = (classification.onnx / name).read_bytes()
        assert copied == (classification.dense / name).read_bytes()


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path, classification: Exported) -> None:
    write_onnx(classification.dense, tmp_path / "again")

    again = (tmp_path / "again" / "model.onnx").read_bytes()
    assert again == (classification.onnx / "model.onnx").read_bytes()


def test_nothing_of_the_exporting_machine_is_in_the_file(classification: Exported) -> None:
    content = (classification.onnx / "model.onnx").read_bytes()

    assert b".py" not in content
    assert b"stack_trace" not in content


def test_large_weights_in_a_file_of_their_own_are_found(
    tmp_path: Path, classification: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As torch does by itself over 1.5 GB.
    save = partialmethod(torch.onnx.ONNXProgram.save, external_data=True)
    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", save)

    write_onnx(classification.dense, tmp_path / "onnx")

    sizes = {path.name: path.stat().st_size for path in (tmp_path / "onnx").glob("model.onnx*")}
    assert sizes["model.onnx"] < sizes["model.onnx.data"]
    assert (
        compare_answers(
            tmp_path / "onnx",
            load_onnx(tmp_path / "onnx"),
            classification.model,
            classification.batches,
        )
        < 1e-5
    )


@pytest.mark.parametrize("factor", [2.0, float("nan")])
def test_a_file_that_answers_otherwise_is_refused(
    tmp_path: Path, classification: Exported, factor: float
) -> None:
    content = onnx.load(classification.onnx / "model.onnx")
    (words,) = (each for each in content.graph.initializer if "word_embeddings" in each.name)
    changed = onnx.numpy_helper.to_array(words) * np.float32(factor)
    words.CopyFrom(onnx.numpy_helper.from_array(changed, words.name))
    shutil.copytree(classification.onnx, tmp_path, dirs_exist_ok=True)
    onnx.save(content, tmp_path / "model.onnx")

    with pytest.raises(CheckpointCorruptError, match="answers otherwise"):
        difference(tmp_path, classification.model, classification.batches)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")

    with pytest.raises(CheckpointCorruptError, match=r"model\.onnx"):
        open_session(tmp_path)


def test_a_model_without_logits_is_refused(tmp_path: Path) -> None:
    tiny.save_model(tmp_path / "dense")

    with pytest.raises(UnsupportedModelError, match="BertModel gives no logits"):
        write_onnx(tmp_path / "dense", tmp_path / "onnx")

    assert not (tmp_path / "onnx").exists()


def test_missing_packages_are_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str) -> object:
        return None if name == "onnxscript" else found(name)

    monkeypatch.setattr("pst_core.formats.onnx.find_spec", find_spec)

    with pytest.raises(NotInstalledError, match=r"onnxscript.*pst-service\[onnx\]"):
        write_onnx(tmp_path / "dense", tmp_path / "onnx")
