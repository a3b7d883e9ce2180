"""The loop trains what may be trained, as the recipe says, and stops when told."""

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pst_core.batches import Batch
from pst_core.convert import head_parameters
from pst_core.errors import NonFiniteLossError
from pst_core.layers import PSTLinear
from pst_core.report import Cost
from pst_core.schedule import learning_rate_factor, sparsity_at
from pst_core.spec import Hyperparameters
from pst_core.trainer import Run, StepReport, StopRequestedError, train
from tests.pst_core import tiny

HYPERPARAMETERS = Hyperparameters(rank=2, score_rank=2, learning_rate=5e-3)


class Training:
    """A tiny model under PST, ready to be trained, and what the loop reported of it."""

    def __init__(
        self, hyperparameters: Hyperparameters = HYPERPARAMETERS, *, seed: int = 0
    ) -> None:
        self.hyperparameters = hyperparameters
        self.model, self.layers = tiny.pst_classifier(hyperparameters, seed=seed)
        self.before = tiny.state(self.model)
        self.reports: list[StepReport] = []

    def run(
        self,
        steps: int,
        *,
        batches: Iterator[Batch] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Cost:
        return train(
            Run(
                model=self.model,
                layers=self.layers,
                batches=batches or tiny.random_batches(),
                total_steps=steps,
                target_sparsity=0.6,
                learning_rate=self.hyperparameters.learning_rate,
                hyperparameters=self.hyperparameters,
                report=self.reports.append,
                should_stop=should_stop,
            )
        )

    def changed(self) -> set[str]:
        """The weights that are no longer, bit for bit, what they were."""
        after = self.model.state_dict()
        return {name for name, old in self.before.items() if not torch.equal(after[name], old)}


def poisoned(model: PreTrainedModel, step: int, value: float) -> Iterator[Batch]:
    """Batches that ruin the model's bias at some step."""
    for number, batch in enumerate(tiny.random_batches(), start=1):
        if number == step:
            nn.init.constant_(model.get_parameter("classifier.bias"), value)
        yield batch


def no_dropout(training: Training) -> Training:
    for module in training.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return training


def test_exactly_factors_and_head_change() -> None:
    training = Training()
    training.run(6)
    factors = {f"{name}.{factor}" for name in training.layers for factor in "UVABRC"}
    assert training.changed() == factors | head_parameters(training.model).keys()


def test_dense_training_changes_every_parameter() -> None:
    training = Training()
    training.model, training.layers = tiny.classifier(), {}
    training.before = tiny.state(training.model)
    training.run(3)
    assert training.changed() == {name for name, _ in training.model.named_parameters()}


def test_the_same_seed_gives_the_same_weights_to_the_last_bit() -> None:
    # Each is built, and its dropout seeded, just before it runs.
    one = Training()
    one.run(5)
    other = Training()
    other.run(5)
    after = other.model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in one.model.state_dict().items())


def test_another_seed_gives_other_weights() -> None:
    one, other = Training(seed=0), Training(seed=1)
    one.run(5)
    other.run(5)
    name = "classifier.weight"
    assert not torch.equal(one.model.get_parameter(name), other.model.get_parameter(name))


def test_the_loss_falls_on_a_batch_that_repeats() -> None:
    training = no_dropout(Training())
    batch = next(tiny.random_batches())
    training.run(40, batches=itertools.repeat(batch))
    assert training.reports[-1].loss < training.reports[0].loss - 0.2


def test_the_reported_loss_is_the_cross_entropy_before_the_step() -> None:
    training = no_dropout(Training())
    batch = next(tiny.random_batches())
    logits = training.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    expected = nn.functional.cross_entropy(logits, batch.labels).item()
    # Nothing is pruned in the first of ten steps.
    training.run(10, batches=itertools.repeat(batch))
    assert training.reports[0].loss == pytest.approx(expected, rel=1e-4)


def test_every_step_of_a_short_run_is_reported() -> None:
    training = Training()
    training.run(7)
    assert [report.step for report in training.reports] == list(range(1, 8))


def test_a_long_run_reports_some_steps_and_the_last() -> None:
    training = Training()
    # The model is beside the point here: one parameter trains, so that 401 steps take no time.
    training.model.requires_grad_(False)
    training.model.get_parameter("classifier.bias").requires_grad = True
    training.layers = {}
    training.run(401)
    assert [report.step for report in training.reports] == [*range(2, 401, 2), 401]


def test_the_sparsity_follows_the_schedule_step_by_step() -> None:
    training = Training()
    training.run(10)
    expected = [
        sparsity_at(step, 10, target=0.6, initial_warmup=0.1, final_hold=0.3)
        for step in range(1, 11)
    ]
    assert [report.sparsity for report in training.reports] == expected


def test_the_layers_end_at_the_target() -> None:
    training = Training()
    training.run(5)
    assert {layer.sparsity for layer in training.layers.values()} == {0.6}


def test_the_learning_rate_follows_its_schedule_step_by_step() -> None:
    training = Training()
    training.run(10)
    expected = [5e-3 * learning_rate_factor(step, 10, warmup=0.06) for step in range(1, 11)]
    assert [report.learning_rate for report in training.reports] == pytest.approx(expected)


def test_the_head_learns_at_its_own_rate() -> None:
    rates = {"learning_rate": 1e-3, "head_learning_rate": 1e-2, "learning_rate_warmup": 0.0}
    training = Training(HYPERPARAMETERS.model_copy(update=rates))
    training.run(1)

    def largest_move(name: str) -> float:
        old: Tensor = training.before[name]
        return (training.model.get_parameter(name) - old).abs().max().item()

    # Adam's first step moves each weight by the rate, which is halfway down in a run of one step.
    assert largest_move("classifier.weight") == pytest.approx(0.5e-2, rel=1e-2)
    factor = "bert.encoder.layer.0.output.dense.V"
    assert largest_move(factor) == pytest.approx(0.5e-3, rel=1e-2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_its_step(value: float) -> None:
    training = Training()
    with pytest.raises(NonFiniteLossError, match="diverged at step 3") as caught:
        training.run(5, batches=poisoned(training.model, 3, value))
    assert caught.value.field == "hyperparameters.learning_rate"
    assert "learning_rate" in caught.value.remedy


def test_a_loss_that_is_not_finite_is_not_trained_on() -> None:
    training = Training()
    with pytest.raises(NonFiniteLossError):
        training.run(5, batches=poisoned(training.model, 1, math.nan))
    assert training.changed() == {"classifier.bias"}


def test_a_stop_request_is_honoured_before_the_next_step() -> None:
    training = Training()
    answers = iter([False, False, True])
    with pytest.raises(StopRequestedError):
        training.run(5, should_stop=lambda: next(answers))
    assert [report.step for report in training.reports] == [1, 2]


def test_a_stop_request_before_the_first_step_trains_nothing() -> None:
    training = Training()
    with pytest.raises(StopRequestedError):
        training.run(5, should_stop=lambda: True)
    assert training.changed() == set()


def test_no_more_batches_are_taken_than_steps() -> None:
    batches = itertools.islice(tiny.random_batches(), 4)
    Training().run(3, batches=batches)
    assert len(list(batches)) == 1


def test_the_cost_counts_the_steps() -> None:
    assert Training().run(3).steps == 3


def test_half_precision_leaves_the_factors_in_full() -> None:
    training = Training(HYPERPARAMETERS.model_copy(update={"precision": "bfloat16"}))
    training.run(3)
    layer = next(iter(training.layers.values()))
    assert isinstance(layer, PSTLinear)
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.float32}


def test_half_precision_changes_the_matrix_products() -> None:
    full, half = (
        no_dropout(Training(HYPERPARAMETERS.model_copy(update={"precision": precision})))
        for precision in ("float32", "bfloat16")
    )
    full.run(1)
    half.run(1)
    assert half.reports[0].loss != full.reports[0].loss
    assert half.reports[0].loss == pytest.approx(full.reports[0].loss, rel=0.05)


def test_every_report_has_a_steps_time() -> None:
    training = Training()
    training.run(3)
    assert all(report.step_seconds > 0 for report in training.reports)
