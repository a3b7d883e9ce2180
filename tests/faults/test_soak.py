"""What a soak says of what it saw; ``make soak`` is the run itself."""

import pytest

from tests.faults.soak import GROWTH, Look, grown


@pytest.mark.parametrize("measure", GROWTH)
def test_what_grows_all_the_time_is_found(measure: str) -> None:
    steps = [Look("api", {measure: 100 + number * GROWTH[measure]}) for number in range(9)]

    assert [measure in told for told in grown(steps)] == [True]


def test_what_grows_at_first_and_then_stays_is_no_growth() -> None:
    steps = [Look("api", {"files": min(50.0, 10.0 * number)}) for number in range(30)]

    assert not list(grown(steps))
