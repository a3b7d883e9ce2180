"""What a request wants of a file of a hundred bytes, as RFC 9110 has it."""

import time

import pytest
from starlette.datastructures import Headers

from app.artifacts.conditions import Wanted, wanted

TAG = '"abc"'
ALL = Wanted(200, 0, 100)


def ask(method: str = "GET", size: int = 100, **headers: str) -> Wanted:
    named = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return wanted(method, named, entity_tag=TAG, size=size)


@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=99-", 99, 100),
        ("bytes=0-", 0, 100),
        ("bytes=90-100000", 90, 100),
        ("bytes=-1", 99, 100),
        ("bytes=-100000", 0, 100),
        ("BYTES = 5-6 ,", 5, 7),
        (f"bytes=1-{'9' * 1000}", 1, 100),
    ],
)
def test_one_range_is_given(value: str, start: int, stop: int) -> None:
    assert ask(range=value) == Wanted(206, start, stop)


@pytest.mark.parametrize("value", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=9999999999-"])
def test_a_range_past_the_end_is_refused(value: str) -> None:
    assert ask(range=value) == Wanted(416)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-4",
        "bytes=--5",
        "bytes=1-2-3",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1.5-2",
        "bytes=²-³",
        "lines=1-2",
        f"bytes={'9' * 5000}-",
        # A client that asks for several gets all of it, and picks them out.
        "bytes=0-1,5-6",
        "bytes=0-99,0-99",
    ],
)
def test_what_is_no_single_range_is_answered_as_if_none_were_asked_for(value: str) -> None:
    assert ask(range=value) == ALL


def test_thousands_of_ranges_cost_nothing() -> None:
    started = time.process_time()

    found = ask(range="bytes=" + ",".join(f"{start}-" for start in range(5000)))

    assert found == ALL
    assert time.process_time() - started < 0.05


def test_an_empty_file_has_no_range() -> None:
    assert ask(size=0, range="bytes=0-") == Wanted(416)
    assert ask(size=0) == Wanted(200, 0, 0)


def test_head_has_no_ranges() -> None:
    assert ask("HEAD", range="bytes=100-") == ALL


@pytest.mark.parametrize("tags", [TAG, "*", f'"x", W/{TAG}', f"W/{TAG}"])
def test_a_file_that_the_client_has_is_not_sent_again(tags: str) -> None:
    assert ask(if_none_match=tags) == Wanted(304)
    assert ask("HEAD", if_none_match=tags, range="bytes=0-1") == Wanted(304)


@pytest.mark.parametrize("tags", ['"x"', "abc", '"a"bc"', '"ABC"', ""])
def test_a_file_that_the_client_does_not_have_is_sent(tags: str) -> None:
    assert ask(if_none_match=tags) == ALL


def test_a_range_goes_with_the_file_it_is_meant_for() -> None:
    assert ask(range="bytes=5-", if_range=TAG) == Wanted(206, 5, 100)


@pytest.mark.parametrize("other", ['"x"', f"W/{TAG}", "Wed, 21 Oct 2015 07:28:00 GMT", "abc"])
def test_of_another_file_the_client_gets_all(other: str) -> None:
    assert ask(range="bytes=5-", if_range=other) == ALL


def test_a_file_that_must_be_another_is_refused() -> None:
    assert ask(if_match='"x"') == Wanted(412)
    assert ask(if_match=f"W/{TAG}") == Wanted(412)
    assert ask(if_match=f'"x", {TAG}') == ALL
    assert ask(if_match="*") == ALL
