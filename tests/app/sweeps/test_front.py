"""The Pareto front of a sweep: what is on it, what its intervals are, and how it is told."""

import csv
import io
import math
from xml.etree import ElementTree as ET

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.states import Status
from app.sweeps.front import T_QUANTILES, as_csv, make_front, mean_estimate
from app.sweeps.picture import draw
from app.sweeps.schemas import Front, FrontPoint, SweepJob
from pst_core.report import Estimate
from pst_core.spec import Method, Metric
from tests.app.sweeps.conftest import Post, Succeed

SVG = "{http://www.w3.org/2000/svg}"


def job(
    number: int,
    value: float,
    size: int,
    *,
    method: Method = "pst",
    sparsity: float | None = None,
    seed: int = 0,
) -> SweepJob:
    return SweepJob(
        id=f"job_{number}",
        status=Status.SUCCEEDED,
        method=method,
        sparsity=None if method == "dense" else sparsity or (number + 1) / 1000,
        seed=seed,
        waits_for=None,
        fraction=1.0,
        error=None,
        metric=Estimate(value=value, low=value - 0.01, high=value + 0.01),
        difference=None,
        gate=None,
        bytes={"dense": 1000} if method == "dense" else {"packed": size, "dense": 1000},
    )


# Few values, so that many are equal.
SCORES = st.lists(
    st.tuples(st.integers(0, 8).map(lambda n: n / 8), st.integers(1, 8)), min_size=1, max_size=20
)


@given(scores=SCORES, metric=st.sampled_from(["accuracy", "perplexity"]))
def test_nobody_on_the_front_is_dominated_and_everybody_off_it_is(
    scores: list[tuple[float, int]], metric: Metric
) -> None:
    front = make_front([job(n, *each) for n, each in enumerate(scores)], metric, "packed")
    sign = -1 if metric == "accuracy" else 1

    def beats(one: FrontPoint, other: FrontPoint) -> bool:
        mine = (one.bytes, sign * one.metric.value)
        theirs = (other.bytes, sign * other.metric.value)
        no_worse = all(a <= b for a, b in zip(mine, theirs, strict=True))
        return no_worse and any(a < b for a, b in zip(mine, theirs, strict=True))

    assert len(front.points) == len(scores)
    for point in front.points:
        assert point.on_front == (not any(beats(other, point) for other in front.points))
    assert any(point.on_front for point in front.points)


@given(scores=SCORES)
def test_along_the_front_what_is_larger_is_better(scores: list[tuple[float, int]]) -> None:
    front = make_front([job(n, *each) for n, each in enumerate(scores)], "accuracy", "packed")
    kept = sorted({(point.bytes, point.metric.value) for point in front.points if point.on_front})

    assert [value for _, value in kept] == sorted({value for _, value in kept})


def test_seeds_make_one_point_with_students_interval() -> None:
    jobs = [
        job(number, value, size, sparsity=0.9, seed=number)
        for number, (value, size) in enumerate([(0.70, 90), (0.74, 100), (0.72, 110)])
    ]
    (point,) = make_front(jobs, "accuracy", "packed").points

    # s = 0.02 of three: 4.303 · 0.02 / √3.
    assert (point.bytes, point.interval, len(point.jobs)) == (100, "seeds", 3)
    assert point.metric.value == pytest.approx(0.72)
    assert point.metric.low == pytest.approx(0.72 - 4.303 * 0.02 / math.sqrt(3))


def test_a_single_run_has_the_interval_of_its_rows() -> None:
    (point,) = make_front([job(0, 0.7, 90)], "accuracy", "packed").points

    assert (point.interval, point.metric.low, point.metric.high) == ("rows", 0.69, 0.71)


@pytest.mark.parametrize("freedom", [1, 2, 5, 30])
def test_the_quantiles_are_students(freedom: int) -> None:
    """By Simpson's rule over the density, from 0 to the quantile: 0.475 of it."""
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    steps, end = 20_000, T_QUANTILES[freedom - 1]
    width = end / steps
    weights = [1, *(4 if n % 2 else 2 for n in range(1, steps)), 1]
    heights = ((1 + (n * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for n in range(steps + 1))
    area = width / 3 * sum(w * h for w, h in zip(weights, heights, strict=True))

    assert scale * area == pytest.approx(0.475, abs=2e-5)


def test_more_seeds_than_the_table_has_make_an_interval_too() -> None:
    estimates = [Estimate(value=n % 2, low=None, high=None) for n in range(40)]

    mean = mean_estimate(estimates)

    assert mean.low is not None
    assert 0.3 < mean.low < mean.value == 0.5


def test_what_prunes_nothing_counts_by_its_dense_bytes() -> None:
    jobs = [job(0, 0.8, 0, method="dense"), job(1, 0.7, 90)]
    front = make_front(jobs, "accuracy", "packed")

    assert [(point.format, point.bytes) for point in front.points] == [
        ("packed", 90),
        ("dense", 1000),
    ]


def test_a_format_that_was_not_made_has_no_point() -> None:
    assert make_front([job(0, 0.7, 90)], "accuracy", "compact").points == []


def crowded() -> Front:
    jobs = [job(0, 0.8, 0, method="dense"), job(1, 0.7, 90), job(2, 0.6, 200)]
    return make_front(jobs, "accuracy", "packed")


def parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314 -- it was made here


def test_the_picture_shows_every_point_and_tells_who_cannot_see_it() -> None:
    root = parsed(draw(crowded(), "<accuracy> & size"))

    described = root.findtext(f"{SVG}desc") or ""
    assert root.findtext(f"{SVG}title") == "<accuracy> & size"
    assert root.get("role") == "img"
    assert "pst 0.002: accuracy 0.7 in 90 B; dense: accuracy 0.8 in 1 kB" in described
    assert "pst 0.003" not in described
    told = [group.findtext(f"{SVG}title") or "" for group in root.iter(f"{SVG}g")]
    assert len([each for each in told if "accuracy" in each]) == 3
    assert len([each for each in told if "on the front" in each]) == 2


@given(scores=SCORES)
def test_the_picture_keeps_to_its_frame(scores: list[tuple[float, int]]) -> None:
    front = make_front([job(n, *each) for n, each in enumerate(scores)], "accuracy", "packed")
    root = parsed(draw(front, "title"))

    line = root.find(f"{SVG}polyline")
    assert line is not None
    for pair in str(line.get("points")).split():
        x, y = map(float, pair.split(","))
        assert 76 <= x <= 570
        assert 48 <= y <= 364


def test_as_csv_it_has_a_row_a_point() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(crowded()))))

    assert [(row["method"], row["bytes"], row["on_front"], row["jobs"]) for row in rows] == [
        ("pst", "90.0", "true", "job_1"),
        ("pst", "200.0", "false", "job_2"),
        ("dense", "1000.0", "true", "job_0"),
    ]


def test_it_is_there_before_all_jobs_have_ended(
    client: TestClient, post: Post, succeed: Succeed
) -> None:
    sweep = post(methods=["pst", "magnitude"], sparsities=[0.5])
    empty = client.get(f"/sweeps/{sweep['id']}/front").json()
    succeed(0.7, 90)

    front = client.get(f"/sweeps/{sweep['id']}/front").json()
    succeed(0.6, 95)
    whole = client.get(f"/sweeps/{sweep['id']}/front").json()

    assert (empty["points"], empty["complete"]) == ([], False)
    assert [point["method"] for point in front["points"]] == ["pst"]
    assert [point["on_front"] for point in whole["points"]] == [True, False]
    assert whole["complete"]


@pytest.mark.parametrize(
    ("output", "media_type"), [("svg", "image/svg+xml"), ("csv", "text/csv; charset=utf-8")]
)
def test_it_comes_as_a_picture_and_as_a_table(
    client: TestClient, post: Post, output: str, media_type: str
) -> None:
    sweep = post()

    answer = client.get(f"/sweeps/{sweep['id']}/front", params={"format": output})

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type)
    assert "No job of the sweep has succeeded yet" in answer.text or output == "csv"
