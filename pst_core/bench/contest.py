"""A random model, its conversion for each method, and one whole training step.

Not the trainer: it sets neither schedule nor rate, so that every step costs the same.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from pst_core.architectures import survey
from pst_core.bench.shapes import Contender, Workload
from pst_core.convert import Pruning, convert, head_parameters
from pst_core.layers import MaskedLinear, PSTLinear
from pst_core.lora import add_adapters
from pst_core.recipes import Hyperparameters

# The paper's numbers, at the sparsity it recommends.
RECIPE = Hyperparameters()
SPARSITY = 0.9

Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Trainee:
    """A model under one method, with the optimizer of what trains in it."""

    model: PreTrainedModel
    optimizer: torch.optim.Optimizer

    def step(self, batch: Batch) -> None:
        self.optimizer.zero_grad()
        self.model(**batch).loss.backward()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        nn.utils.clip_grad_norm_(trained, RECIPE.max_gradient_norm)
        self.optimizer.step()


def random_model(workload: Workload) -> PreTrainedModel:
    torch.manual_seed(0)
    shape = workload.shape
    config = BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
        hidden_dropout_prob=workload.dropout,
        attention_probs_dropout_prob=workload.dropout,
    )
    with torch.device(workload.device):
        model: PreTrainedModel = BertForSequenceClassification(config)
    return model


def random_batch(workload: Workload) -> Batch:
    size = (workload.tokens // workload.length, workload.length)
    tokens = torch.randint(workload.shape.vocabulary, size, device=workload.device)
    labels = torch.randint(2, size[:1], device=workload.device)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


def train_by(contender: Contender, model: PreTrainedModel) -> Trainee:
    """Convert a model and choose what trains in it, its task head always."""
    head = list(head_parameters(model).values())
    rate = RECIPE.learning_rate
    model.train().requires_grad_(requires_grad=False)
    if contender == "lora":
        add_adapters(model, survey(model).prunable, RECIPE)
    elif contender == "pst":
        convert(model, Pruning(method="pst"), RECIPE).set_sparsity(SPARSITY)
    else:
        if contender == "movement":
            convert(model, Pruning(method="movement"), RECIPE).set_sparsity(SPARSITY)
        rate = RECIPE.dense_learning_rate
        model.requires_grad_(requires_grad=True)
    for parameter in head:
        parameter.requires_grad = True
    _leave_the_start(model)
    return Trainee(model, _optimizer(model, rate))


@torch.no_grad()
def _leave_the_start(model: PreTrainedModel) -> None:
    """As after a few steps: no factor is zero and no two scores are the same, which is cheaper."""
    for layer in model.modules():
        if isinstance(layer, PSTLinear):
            for factor in (layer.V, layer.B, layer.R, layer.C):
                factor.normal_(std=1e-3)
        elif isinstance(layer, MaskedLinear) and layer.S is not None:
            layer.S.normal_(std=1e-2)


def _optimizer(model: PreTrainedModel, rate: float) -> torch.optim.Optimizer:
    # At their own rate, as the service trains them.
    scores = {id(layer.S) for layer in model.modules() if isinstance(layer, MaskedLinear)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [each for each in trained if id(each) in scores],
            "lr": RECIPE.score_learning_rate,
        },
        {"params": [each for each in trained if id(each) not in scores], "lr": rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=RECIPE.weight_decay, fused=True)
