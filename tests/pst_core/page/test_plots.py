"""Plots are well-formed, labelled, the same twice, and left out where there is nothing to draw."""

from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import image

from pst_core.page.plots import draw_mask_churn, draw_sparsity, draw_training, write_plots
from tests.pst_core import sample_report

ALL = ("training", "sparsity", "mask-churn")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plots")
    assert write_plots(sample_report.report(), folder) == ALL
    return folder


def words(path: Path) -> set[str]:
    """The texts of an SVG; parsing it fails where it is not well-formed."""
    root = ET.fromstring(path.read_bytes())  # noqa: S314 -- made by the test itself
    return {"".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")}


def test_loss_and_sparsity_have_titles_and_axes_with_units(drawn: Path) -> None:
    assert {
        "Training loss and sparsity by step",
        "training loss",
        "sparsity (% of entries)",
        "step (optimizer steps)",
        "asked: 90 %",
    } <= words(drawn / "training.svg")


def test_the_heat_map_names_types_layers_and_values(drawn: Path) -> None:
    assert {
        "Sparsity by layer and type",
        "attention.self.query",
        "intermediate.dense",
        "layer (number)",
        "matrix type",
        "90.0",
        "sparsity (% of entries)",
    } <= words(drawn / "sparsity.svg")


def test_the_mask_churn_is_in_per_cent(drawn: Path) -> None:
    assert {"mask churn (%)", "step (optimizer steps)"} <= words(drawn / "mask-churn.svg")


@pytest.mark.parametrize("name", ALL)
def test_a_png_opens_and_is_of_a_readable_size(drawn: Path, name: str) -> None:
    path = drawn / f"{name}.png"
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    height, width, _ = image.imread(path).shape
    assert width > 600
    assert height > 200


def test_the_same_report_gives_the_same_bytes(drawn: Path, tmp_path: Path) -> None:
    write_plots(sample_report.report(), tmp_path)
    for path in drawn.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_readers_own_style_changes_nothing(drawn: Path, tmp_path: Path) -> None:
    with mpl.rc_context():
        mpl.rc("lines", linewidth=9)
        mpl.rc("svg", fonttype="path", hashsalt=None)
        write_plots(sample_report.report(), tmp_path)
        assert mpl.rcParams["lines.linewidth"] == 9
    for path in drawn.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("name", ALL)
def test_no_file_holds_a_date_or_a_version(drawn: Path, name: str) -> None:
    for suffix in (".svg", ".png"):
        content = (drawn / f"{name}{suffix}").read_bytes().lower()
        assert b"dc:date" not in content
        assert b"matplotlib v" not in content


def test_a_method_without_sparsity_gives_the_loss_alone(tmp_path: Path) -> None:
    assert write_plots(sample_report.dense(), tmp_path) == ("training",)
    found = words(tmp_path / "training.svg")
    assert "Training loss by step" in found
    assert not any("sparsity" in text for text in found)


def test_pruning_without_training_gives_the_heat_map_alone(tmp_path: Path) -> None:
    assert write_plots(sample_report.one_shot(), tmp_path) == ("sparsity",)


def test_where_nobody_looked_at_the_masks_no_churn_is_drawn() -> None:
    curve = [point | {"mask_churn": None} for point in sample_report.curve()]
    assert draw_mask_churn(sample_report.report(curve=curve)) is None


def test_a_single_step_is_a_visible_point() -> None:
    figure = draw_training(sample_report.report(curve=sample_report.curve()[:1]))
    assert figure is not None
    assert figure.axes[0].lines[0].get_marker() == "o"


def test_the_curve_has_the_values_of_the_report() -> None:
    report = sample_report.report()
    figure = draw_training(report)
    assert figure is not None
    loss, sparsity = (np.asarray(axes.lines[0].get_ydata()).tolist() for axes in figure.axes)
    assert loss == [point.loss for point in report.curve]
    assert sparsity == [100 * point.sparsity for point in report.curve]


def test_the_heat_map_has_the_values_of_the_report() -> None:
    report = sample_report.report()
    figure = draw_sparsity(report)
    assert figure is not None
    first = report.outcome.matrices[0]
    values = figure.axes[0].images[0].get_array()
    assert values is not None
    assert values[0, 0] == pytest.approx(100 * first.pruned / (48 * 48))


def test_a_matrix_that_was_not_pruned_is_a_grey_cell(tmp_path: Path) -> None:
    report = sample_report.report(matrices=sample_report.matrices()[:-1])
    write_plots(report, tmp_path)
    assert "layer (number), grey: not pruned" in words(tmp_path / "sparsity.svg")


def test_a_fused_matrix_is_one_row(tmp_path: Path) -> None:
    fused = sample_report.matrices()[0] | {"name": "h.0.attn.c_attn.weight", "parts": [16] * 3}
    write_plots(sample_report.report(matrices=[fused]), tmp_path)
    assert "attn.c_attn (3 fused)" in words(tmp_path / "sparsity.svg")


def test_many_layers_leave_out_numbers_that_would_overlap(tmp_path: Path) -> None:
    write_plots(sample_report.report(matrices=sample_report.matrices(layers=60)), tmp_path)
    found = words(tmp_path / "sparsity.svg")
    assert {"0", "57"} <= found
    assert not {"1", "58", "90.0"} & found


def test_strange_names_are_drawn_as_text_and_not_as_formulas(tmp_path: Path) -> None:
    strange = sample_report.matrices()[0] | {"name": "h.0.$x^<&重\x07.weight"}
    write_plots(sample_report.report(matrices=[strange]), tmp_path)
    assert r"$x^<&\u91cd\x07" in words(tmp_path / "sparsity.svg")
