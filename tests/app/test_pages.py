"""Cursors are opaque, and come back as they were given."""

import pytest

from app.pages import decode_cursor, decode_number, encode_cursor, make_page
from app.problems import Problem


@pytest.mark.parametrize("position", ["job_0192", "7", "", "a" * 50])
def test_a_cursor_comes_back_as_it_was_given(position: str) -> None:
    assert decode_cursor(encode_cursor(position)) == position


def test_a_number_beyond_the_column_is_no_cursor() -> None:
    with pytest.raises(Problem):
        decode_number(encode_cursor(str(2**31)), "")


def test_a_full_last_page_has_no_next() -> None:
    page = make_page([1, 2], 2, ["1", "2"])

    assert (page.has_more, page.next_cursor) == (False, None)


def test_one_item_too_many_means_more() -> None:
    page = make_page([1, 2, 3], 2, ["1", "2", "3"])

    assert page.data == [1, 2]
    assert decode_cursor(page.next_cursor or "") == "2"
