"""Names of matrices tell layer and type, whatever the architecture."""

import pytest

from pst_core.page.matrix_grid import Place, Tally, arrange, generalized, place, total
from pst_core.report import PrunedMatrix


def matrix(name: str, pruned: int, parts: tuple[int, ...] = (6,)) -> PrunedMatrix:
    return PrunedMatrix(name=name, shape=(6, 2), pruned=pruned, parts=parts)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "bert.encoder.layer.11.attention.self.query.weight",
            Place("bert.encoder.layer", 11, "attention.self.query"),
        ),
        ("transformer.h.0.attn.c_attn.weight", Place("transformer.h", 0, "attn.c_attn")),
        ("0.query.weight", Place("", 0, "query")),
        ("fc1.weight", Place("", None, "fc1")),
    ],
)
def test_a_name_tells_stack_layer_and_type(name: str, expected: Place) -> None:
    assert place(name) == expected


def test_a_number_in_a_word_is_no_layer() -> None:
    assert place("model.layers.3.mlp.fc2.weight") == Place("model.layers", 3, "mlp.fc2")


def test_names_that_differ_in_numbers_have_one_pattern() -> None:
    assert generalized("model.layers.3.experts.12") == "model.layers.*.experts.*"


def test_cells_count_zeros_by_type_and_layer() -> None:
    grid = arrange([matrix("h.1.a.weight", 5), matrix("h.0.a.weight", 7)])
    assert grid.cells == {("a", 1): Tally(1, 12, 5), ("a", 0): Tally(1, 12, 7)}


def test_layers_go_by_number_and_types_as_in_the_model() -> None:
    grid = arrange([matrix(f"h.{layer}.{kind}.weight", 1) for layer in (10, 9) for kind in "ba"])
    assert (grid.layers, grid.kinds) == ((9, 10), ("b", "a"))


def test_a_matrix_outside_the_layers_is_in_a_column_of_its_own() -> None:
    assert arrange([matrix("fc.weight", 1), matrix("h.0.a.weight", 1)]).layers == (0, None)


def test_the_experts_of_a_layer_are_summed() -> None:
    grid = arrange([matrix(f"layers.0.experts.{n}.up.weight", 3 + n) for n in range(2)])
    assert grid.cells == {("experts.*.up", 0): Tally(2, 24, 7)}


def test_the_types_of_two_stacks_are_apart() -> None:
    grid = arrange([matrix("encoder.0.q.weight", 1), matrix("decoder.0.q.weight", 2)])
    assert grid.kinds == ("encoder.*.q", "decoder.*.q")


def test_a_fused_matrix_is_one_row_that_knows_its_parts() -> None:
    grid = arrange([matrix("h.0.c_attn.weight", 6, parts=(2, 2, 2))])
    assert [(kind, total(grid.of_kind(kind)).parts) for kind in grid.kinds] == [("c_attn", 3)]


def test_nothing_has_no_sparsity() -> None:
    assert total([]).sparsity == 0.0
