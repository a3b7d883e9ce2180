"""Places in a body as JSON pointers (RFC 6901, sections 3 and 6)."""

import pytest

from app.pointers import pointer


@pytest.mark.parametrize(
    ("location", "body", "expected"),
    [
        ([], {}, "#"),
        (["dataset", "ref"], {"dataset": {"ref": 1}}, "#/dataset/ref"),
        (["formats", 1], {"formats": ["packed", "x"]}, "#/formats/1"),
        (["a/b"], {"a/b": 0}, "#/a~1b"),
        (["m~n"], {"m~n": 0}, "#/m~0n"),
        (["c%d e^f"], {"c%d e^f": 0}, "#/c%25d%20e%5Ef"),
        (["π"], {"π": 0}, "#/%CF%80"),
    ],
)
def test_a_place_is_written_as_the_rfc_has_it(
    location: list[str | int], body: object, expected: str
) -> None:
    assert pointer(location, body) == expected


def test_what_is_missing_has_the_place_where_it_should_be() -> None:
    assert pointer(["dataset", "ref"], {"dataset": {}}) == "#/dataset/ref"


def test_what_lies_within_a_text_or_number_has_its_place() -> None:
    assert pointer(["dataset", "ref"], {"dataset": "pkg:nope"}) == "#/dataset"
    assert pointer(["train", "constrained-int"], {"train": 1.5}) == "#/train"
