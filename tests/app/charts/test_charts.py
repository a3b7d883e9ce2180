"""Charts as SVG: well-formed, with all their points, and told to who does not see them."""

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from app.charts import heat, lines
from app.charts.lines import HEIGHT, WIDTH, Series
from pst_core.report import PrunedMatrix

NUMBERS = st.floats(-1e6, 1e6).map(lambda value: round(value, 6))
POINTS = st.lists(st.tuples(st.integers(0, 10**7).map(float), NUMBERS), min_size=1, max_size=60)


def matrix(name: str, pruned: int) -> PrunedMatrix:
    return PrunedMatrix(name=name, shape=(10, 10), pruned=pruned, parts=(10,))


@given(POINTS)
def test_every_point_lies_within_the_picture(points: list[tuple[float, float]]) -> None:
    picture = ET.fromstring(lines.draw("Loss", [Series("main", points)]))  # noqa: S314 -- our own

    drawn = [line.attrib["points"].split() for line in picture.iter("polyline")]
    assert [len(each) for each in drawn] == [len(points)]
    for place in drawn[0]:
        x, y = map(float, place.split(","))
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def test_a_series_is_told_to_who_does_not_see_it() -> None:
    picture = lines.draw("Loss <1>", [Series("main", [(1, 0.5), (2, 0.75), (3, 0.25)])])

    assert 'aria-label="Loss &lt;1&gt;. main: from 0.5 to 0.25, between 0.25 and 0.75"' in picture


def test_matrices_stand_by_block_and_part() -> None:
    shown = heat.arrange(
        [
            matrix("bert.encoder.layer.0.attention.output.dense.weight", 90),
            matrix("bert.encoder.layer.0.output.dense.weight", 80),
            matrix("bert.encoder.layer.11.output.dense.weight", 70),
            matrix("lm_head.weight", 10),
        ]
    )

    assert [*shown.rows] == ["0", "11", "lm_head.weight"]
    assert shown.rows["11"]["output.dense"].sparsity == 0.7
    picture = ET.fromstring(heat.draw(shown))  # noqa: S314 -- our own
    texts = [each.text for each in picture.iter("text")]
    assert {"attention", "output", "90.0", "80.0", "70.0", "10.0"} <= {*texts}
