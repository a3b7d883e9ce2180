"""While a sparse model is scored its masked weights stay as they are, computed once."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pst_core.convert import Converted, Pruning, convert
from pst_core.criteria import CRITERIA
from pst_core.recipes import Hyperparameters
from pst_core.spec import Method
from pst_core.tasks.language import DataToText
from tests.pst_core import tiny
from tests.pst_core.selections import Selections

INPUT_IDS = torch.tensor([[4, 9, 14, 19], [15, 10, 5, 8]])
HYPER = Hyperparameters(rank=2, score_rank=2)


def sparse_model(method: Method = "pst") -> tuple[PreTrainedModel, Converted]:
    model = tiny.language_model().eval()
    converted = convert(model, Pruning(method=method), HYPER)
    torch.manual_seed(0)
    move(converted)
    converted.set_sparsity(0.5)
    return model, converted


def outputs(model: PreTrainedModel) -> Tensor:
    logits: Tensor = model(input_ids=INPUT_IDS).logits
    return logits


@torch.no_grad()
def move(converted: Converted) -> None:
    """Have all that trains in the layers be another."""
    for layer in converted.layers.values():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.fixture
def selections(monkeypatch: pytest.MonkeyPatch) -> Selections:
    return Selections(monkeypatch)


@pytest.mark.parametrize("method", list(CRITERIA))
def test_a_frozen_model_says_the_same(method: Method) -> None:
    model, converted = sparse_model(method)
    before = outputs(model)
    with converted.frozen():
        assert torch.equal(outputs(model), before)


def test_each_mask_is_selected_once_however_often_the_model_runs(selections: Selections) -> None:
    model, converted = sparse_model()
    with converted.frozen():
        for _ in range(3):
            outputs(model)
    assert selections.of(converted.layers.values()) == [1] * len(converted.layers)


def test_a_frozen_model_writes_the_same_and_selects_each_mask_once(
    tmp_path: Path, selections: Selections
) -> None:
    tokenizer = tiny.tokenizer(tiny.save_language_model(tmp_path))
    task = tiny.task("data-to-text", hyperparameters={"max_new_tokens": 4, "beams": 2})
    assert isinstance(task, DataToText)
    model, converted = sparse_model()
    with converted.frozen():
        written = task.write(model, ["a film", "scene"], tokenizer)
    assert selections.of(converted.layers.values()) == [1] * len(converted.layers)
    assert any(written)
    assert task.write(model, ["a film", "scene"], tokenizer) == written


def test_what_changes_meanwhile_is_seen_afterwards() -> None:
    model, converted = sparse_model()
    before = outputs(model)
    with converted.frozen():
        move(converted)
        assert torch.equal(outputs(model), before)
    assert not torch.equal(outputs(model), before)


def test_a_model_trains_on_though_its_scoring_failed() -> None:
    model, converted = sparse_model()
    with pytest.raises(ZeroDivisionError), converted.frozen():
        raise ZeroDivisionError
    outputs(model).sum().backward()
    layer = next(iter(converted.layers.values()))
    assert layer.get_parameter("V").grad is not None
