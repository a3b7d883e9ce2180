"""Names of others have no effect on a page, and numbers are written for people."""

import pytest

from pst_core.page.markdown import code, codes, number, percent, plain, signed, size, table


def test_a_name_stands_in_a_code_span() -> None:
    assert code("bert.encoder.layer.0") == "`bert.encoder.layer.0`"


@pytest.mark.parametrize("name", ["a|b", "a`b", "a\\|b", "a\nb", "a\x1b[31mb"])
def test_a_name_that_could_break_a_table_is_spelled_in_entities(name: str) -> None:
    written = code(name)
    assert written.startswith("<code>a")
    assert not set("|`\\\n\x1b") & set(written)


def test_a_name_of_html_is_shown_and_not_obeyed() -> None:
    assert "<script" not in plain("<script>alert(1)</script>")


@pytest.mark.parametrize("text", ["*bold*", "_low_", "[a](b)", "$x$", "&lt;", "# title", "~~a~~"])
def test_text_of_others_has_no_sign_that_means_something(text: str) -> None:
    assert not set("*_[]$~<>") & set(plain(text))


def test_a_text_of_plain_words_is_left_alone() -> None:
    assert plain("its weight is tied to another layer's") == "its weight is tied to another layer's"


def test_an_empty_name_is_said_to_be_empty() -> None:
    assert code("") == "(empty)"


def test_no_names_are_none() -> None:
    assert codes([]) == "none"


def test_a_table_has_its_alignment_below_its_head() -> None:
    assert table(("a", "b"), "lr", [("x", "1")]) == "| a | b |\n| :-- | --: |\n| x | 1 |"


def test_a_table_needs_an_alignment_for_each_column() -> None:
    with pytest.raises(ValueError, match="letters of alignment"):
        table(("a", "b"), "l", [])


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.83172, "0.8317"), (23.4172, "23.42"), (-0.00017, "-0.00017"), (50257.3, "50,257")],
)
def test_numbers_have_four_digits_and_large_ones_are_whole(value: float, written: str) -> None:
    assert number(value) == written


@pytest.mark.parametrize(("value", "written"), [(0.5, "+0.5"), (-0.5, "-0.5"), (0.0, "0")])
def test_a_difference_shows_its_sign(value: float, written: str) -> None:
    assert signed(value) == written


def test_shares_are_per_cent_to_the_millionth() -> None:
    assert percent(0.899713) == "89.9713 %"


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (731, "731 bytes"),
        (4_938_308, "4,938,308 bytes (4.94 MB)"),
        (7_310_000_000_000_000, "7,310,000,000,000,000 bytes (7.31e+03 TB)"),
    ],
)
def test_sizes_are_exact_and_in_the_unit_that_suits(count: int, written: str) -> None:
    assert size(count) == written
