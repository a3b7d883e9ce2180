"""A column plays a role by its name: the spec's first, then the usual ones, and never by chance."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pst_core.data import load_splits
from pst_core.dataset_spec import Dataset, Role
from pst_core.errors import InvalidDatasetError
from pst_core.references import DataSource
from pst_core.roles import are_names, candidates, resolve, split_column_of, split_named
from tests.pst_core.tables import TEXT_AND_LABEL, write_csv

PAIR: Mapping[Role, str] = {"text": "text", "pair": "pair", "label": "label"}
WRITING: Mapping[Role, str] = {"prompt": "prompt", "completion": "completion"}


def refusal(columns: Mapping[Role, str], header: Sequence[str]) -> InvalidDatasetError:
    with pytest.raises(InvalidDatasetError) as caught:
        resolve(columns, header, said=())
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("columns", "header", "found"),
    [
        (TEXT_AND_LABEL, ["text", "label"], ["text", "label"]),
        (TEXT_AND_LABEL, ["id", "review", "sentiment"], ["review", "sentiment"]),
        (TEXT_AND_LABEL, [" Review-Text ", "STARS"], [" Review-Text ", "STARS"]),
        (TEXT_AND_LABEL, ["Text", "sentence", "Label", "class"], ["Text", "Label"]),
        (TEXT_AND_LABEL, ["text", "sentence", "label", "class"], ["text", "label"]),
        (PAIR, ["sentence1", "sentence2", "label"], ["sentence1", "sentence2", "label"]),
        (PAIR, ["premise", "hypothesis", "label"], ["premise", "hypothesis", "label"]),
        (WRITING, ["mr", "human_reference"], ["mr", "human_reference"]),
        (WRITING, ["Instruction", "output"], ["Instruction", "output"]),
    ],
)
def test_a_column_is_found_by_its_name(
    columns: Mapping[Role, str], header: Sequence[str], found: Sequence[str]
) -> None:
    assert [*resolve(columns, header, said=()).values()] == found


@pytest.mark.parametrize(
    ("columns", "header", "role", "names"),
    [
        (TEXT_AND_LABEL, ["title", "review", "label"], "text", "'title', 'review'"),
        (TEXT_AND_LABEL, ["review", "stars", "sentiment"], "label", "'stars', 'sentiment'"),
        (TEXT_AND_LABEL, ["sentence1", "sentence2", "label"], "text", "'sentence1', 'sentence2'"),
        (TEXT_AND_LABEL, ["question", "hypothesis", "label"], "text", "'question', 'hypothesis'"),
        (WRITING, ["prompt", "output", "answer"], "completion", "'output', 'answer'"),
        (TEXT_AND_LABEL, ["TEXT", "Text", "label"], "text", "'TEXT', 'Text'"),
    ],
)
def test_several_that_fit_are_an_error_that_names_them(
    columns: Mapping[Role, str], header: Sequence[str], role: str, names: str
) -> None:
    error = refusal(columns, header)
    assert error.field == f"dataset.columns.{role}"
    assert error.message == f"No column is called {role!r}, and several could be it: {names}."


def test_the_specs_name_wins_over_the_usual_ones() -> None:
    columns: Mapping[Role, str] = {"text": "notes", "label": "label"}
    found = resolve(columns, ["notes", "text", "stars"], said={"text"})
    assert found == {"text": "notes", "label": "stars"}


def test_what_the_spec_names_is_never_replaced_by_what_fits() -> None:
    columns: Mapping[Role, str] = {"text": "absent", "label": "label"}
    assert resolve(columns, ["text", "label"], said={"text"}) == columns


def test_a_column_plays_one_role_only() -> None:
    columns: Mapping[Role, str] = {"text": "text", "label": "title"}
    assert resolve(columns, ["title", "review"], said={"label"})["text"] == "review"


def test_what_nothing_fits_is_left_as_it_was() -> None:
    assert resolve(TEXT_AND_LABEL, ["x", "y"], said=()) == TEXT_AND_LABEL


@pytest.mark.parametrize("role", ["text", "label"])
def test_a_roles_own_name_that_the_spec_says_is_meant(tmp_path: Path, role: str) -> None:
    path = write_csv(tmp_path / "d.csv", [("a", "b", "0")], "review", "comment", "stars")
    given = {"ref": "file:d", "columns": {role: role, "pair": "comment"}}
    with pytest.raises(InvalidDatasetError, match=f"has no column '{role}'"):
        load_splits(
            Dataset.model_validate(given),
            DataSource(path=path),
            columns={**PAIR, "pair": "comment"},
            target="class",
            seed=0,
        )


def test_candidates_come_in_the_files_order() -> None:
    assert candidates("text", ["title", "x", "review"]) == ["title", "review"]


@pytest.mark.parametrize(
    ("header", "found"),
    [(["text", "Split"], "Split"), (["fold"], "fold"), (["split", "fold"], None), (["text"], None)],
)
def test_one_column_alone_says_the_split(header: Sequence[str], found: str | None) -> None:
    assert split_column_of(header) == found


@pytest.mark.parametrize(
    ("value", "split"),
    [
        ("train", "train"), (" Train ", "train"), ("valid", "validation"), ("DEV", "validation"),
        ("validation", "validation"), ("test", "test"),
        ("training", None), ("", None), (None, None), (1, None),
    ],
)  # fmt: skip
def test_a_cell_names_a_split(value: object, split: str | None) -> None:
    assert split_named(value) == split


@pytest.mark.parametrize(
    ("header", "known"), [(["x", "Review Text"], True), (["Split"], True), (["I like it"], False)]
)
def test_a_header_has_a_name_that_is_known(header: Sequence[str], known: bool) -> None:
    assert are_names(header) == known
