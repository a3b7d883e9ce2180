"""The data of a job: the same examples for who trains and for who verifies, or a clear refusal."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pst_core.batches import Example
from pst_core.errors import InvalidDatasetError, UnsupportedModelError
from pst_core.prepare import Prepared, Sources, prepare
from pst_core.readers import SPLITS
from pst_core.references import DataSource
from pst_core.tasks.language import CausalLM
from pst_core.tasks.sequence import Classification
from tests.pst_core import tiny

LANGUAGE = {
    "task": "causal-lm",
    "dataset": "file:texts.csv",
    "hyperparameters": {"max_length": 8},
}


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return tiny.sources(tmp_path)


@pytest.fixture
def language_sources(tmp_path: Path) -> Sources:
    data = tiny.save_csv(tmp_path / "texts.csv", [("a film",)] * 20, columns=("text",))
    model = tiny.save_language_model(tmp_path / "model")
    return Sources(model=model, dataset=DataSource(path=data))


def plain(prepared: Prepared, split: str) -> list[tuple[list[int], float]]:
    return [
        (example.tokens.tolist(), example.target)
        for name, examples in prepared.examples.items()
        if name == split
        for example in examples
    ]


def test_every_row_of_every_split_becomes_an_example(sources: Sources, tmp_path: Path) -> None:
    prepared = prepare(tiny.spec(tmp_path), sources)
    assert isinstance(prepared.task, Classification)
    counts = {name: len(examples) for name, examples in prepared.examples.items()}
    assert counts == {"train": 160, "validation": 30, "test": 40}
    assert prepared.data.labels == ("neg", "pos")


def test_the_targets_are_the_labels_of_the_texts(sources: Sources, tmp_path: Path) -> None:
    prepared = prepare(tiny.spec(tmp_path), sources)
    good = {tiny.VOCABULARY[word] for word in tiny.GOOD}
    for split in SPLITS:
        for tokens, target in plain(prepared, split):
            assert target == bool(good & set(tokens))


def test_one_split_alone_is_prepared_as_among_all(sources: Sources, tmp_path: Path) -> None:
    spec = tiny.spec(tmp_path)
    alone, among = prepare(spec, sources, splits=("test",)), prepare(spec, sources)
    assert alone.examples.keys() == {"test"}
    assert plain(alone, "test") == plain(among, "test")
    assert alone.data.sha256 == among.data.sha256


def test_the_seed_decides_which_rows_go_where(sources: Sources, tmp_path: Path) -> None:
    one, other = (prepare(tiny.spec(tmp_path, seed=seed), sources) for seed in (0, 1))
    assert plain(one, "test") != plain(other, "test")


def test_a_text_longer_than_the_model_has_positions_is_refused_before_training(
    sources: Sources, tmp_path: Path
) -> None:
    spec = tiny.spec(tmp_path, hyperparameters={"max_length": 131})
    with pytest.raises(UnsupportedModelError, match="130 positions") as caught:
        prepare(spec, sources)
    assert caught.value.field == "hyperparameters.max_length"


def test_texts_are_joined_before_they_are_cut(language_sources: Sources, tmp_path: Path) -> None:
    spec = tiny.spec(tmp_path, **LANGUAGE)
    prepared = prepare(spec, language_sources)
    # 16 texts of two words and an end.
    assert [len(tokens) for tokens, _ in plain(prepared, "train")] == [8] * 6


class Wordless(CausalLM):
    """Of which the text of some splits gives no block."""

    left: int

    def encode(self, *_: object) -> Iterator[Example]:
        Wordless.left -= 1
        if Wordless.left >= 0:
            yield Example(np.array([4, 5], np.int32), 0)


@pytest.mark.parametrize(("left", "split"), [(0, "train"), (2, "test")])
def test_a_split_without_a_single_block_is_refused_with_its_name(
    left: int,
    split: str,
    language_sources: Sources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Wordless.left = left
    monkeypatch.setattr("pst_core.prepare.make_task", Wordless)
    with pytest.raises(InvalidDatasetError, match=f"The {split} split has too little") as caught:
        prepare(tiny.spec(tmp_path, **LANGUAGE), language_sources)
    assert caught.value.field == "dataset"


def test_a_folder_without_a_validation_split_is_prepared(sources: Sources, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    tiny.save_csv(data / "train.csv", tiny.toy_rows(8))
    tiny.save_csv(data / "test.csv", tiny.toy_rows(4))
    spec = tiny.spec(tmp_path, dataset=f"file:{data}")
    prepared = prepare(spec, Sources(model=sources.model, dataset=DataSource(path=data)))
    counts = {name: len(examples) for name, examples in prepared.examples.items()}
    assert counts == {"train": 8, "validation": 0, "test": 4}
