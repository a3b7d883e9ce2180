"""The loop trains what may be trained, as the recipe says, and stops when told."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pst_core.batches import Batch, Collator, Example, Examples
from pst_core.convert import Converted, head_parameters
from pst_core.errors import NonFiniteLossError
from pst_core.layers import PSTLinear
from pst_core.recipes import Hyperparameters
from pst_core.report import Cost
from pst_core.schedule import learning_rate_factor, sparsity_at
from pst_core.spec import CompressionSpec
from pst_core.tasks import make_task
from pst_core.trainable import factor_groups, full_groups
from pst_core.trainer import ParameterGroup, Run, StepReport, StopRequestedError, train
from tests.pst_core import tiny

HYPERPARAMETERS = Hyperparameters(rank=2, score_rank=2, learning_rate=5e-3)


TASK = make_task(
    CompressionSpec.model_validate({"model": "pkg:m", "dataset": "pkg:d", "sparsity": 0.6})
)


class Training:
    """A tiny model, under PST unless said otherwise, and what the loop reported of it."""

    def __init__(
        self, hyper: Hyperparameters = HYPERPARAMETERS, *, seed: int = 0, dense: bool = False
    ) -> None:
        self.hyper = hyper
        if dense:
            self.model, self.sparse = tiny.classifier(seed=seed), Converted({})
        else:
            self.model, self.sparse = tiny.pst_classifier(hyper, seed=seed)
        self.before = tiny.state(self.model)
        self.reports: list[StepReport] = []
        self.groups: list[ParameterGroup] | None = None

    def run(self, steps: int, *, batches: Iterator[Batch] | None = None, **options: Any) -> Cost:
        return train(
            Run(
                model=self.model,
                task=TASK,
                sparse=self.sparse,
                groups=self.groups or self._groups(steps),
                batches=batches or tiny.random_batches(),
                total_steps=steps,
                target_sparsity=0.6 if self.sparse.layers else 0.0,
                hyper=self.hyper,
                report=self.reports.append,
                **{"validate": lambda: 0.0, "should_stop": lambda: False, **options},
            )
        )

    def _groups(self, steps: int) -> list[ParameterGroup]:
        if not self.sparse.layers:
            return full_groups(
                self.model, self.sparse, self.hyper, new_head=True, total_steps=steps
            )
        return factor_groups(self.model, self.sparse, self.hyper, new_head=True, total_steps=steps)

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
    factors = {f"{name}.{factor}" for name in training.sparse.layers for factor in "UVABRC"}
    assert training.changed() == factors | head_parameters(training.model).keys()


def test_dense_training_changes_every_parameter() -> None:
    training = Training(dense=True)
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
    logits = training.model(**batch.inputs()).logits
    expected = nn.functional.cross_entropy(logits, batch.targets.long()).item()
    # Nothing is pruned in the first of ten steps.
    training.run(10, batches=itertools.repeat(batch))
    assert training.reports[0].loss == pytest.approx(expected, rel=1e-4)


def test_every_step_of_a_short_run_is_reported() -> None:
    training = Training()
    training.run(7)
    assert [report.step for report in training.reports] == list(range(1, 8))


def test_a_long_run_reports_some_steps_and_the_last() -> None:
    training = Training(dense=True)
    # The model is beside the point here: one parameter trains, so that 401 steps take no time.
    training.model.requires_grad_(requires_grad=False)
    bias = training.model.get_parameter("classifier.bias")
    bias.requires_grad = True
    training.groups = [ParameterGroup([bias], 1e-3)]
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
    assert {layer.sparsity for layer in training.sparse.layers.values()} == {0.6}


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


def test_a_loss_that_was_not_finite_between_two_reports_names_its_step() -> None:
    training = Training(dense=True)
    with pytest.raises(NonFiniteLossError, match="diverged at step 1:"):
        # Of 400 steps every second one is reported.
        training.run(400, batches=poisoned(training.model, 1, math.nan))


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


def test_accumulated_shares_of_a_batch_train_as_the_whole_batch() -> None:
    # Of one length, so that no token weighs more in one share than in another.
    examples = Examples.collect(
        Example(np.full(5, 4 + number, np.int32), number % 2) for number in range(8)
    )
    whole, shares = (
        no_dropout(Training(HYPERPARAMETERS.model_copy(update={"accumulation": accumulation})))
        for accumulation in (1, 4)
    )
    collate = Collator(pad_token=0, token_types=False)
    whole.run(1, batches=iter([collate(examples, range(8))]))
    shares.run(1, batches=iter([collate(examples, range(8))]))
    assert shares.reports[0].loss == pytest.approx(whole.reports[0].loss, rel=1e-5)
    name = "classifier.weight"
    torch.testing.assert_close(shares.model.get_parameter(name), whole.model.get_parameter(name))


def test_a_teacher_draws_the_model_to_its_answers() -> None:
    hyper = HYPERPARAMETERS.model_copy(update={"distillation": 1.0})
    training = no_dropout(Training(hyper))
    batch = next(tiny.random_batches())
    # It says the opposite of the labels.
    teacher_NC = torch.zeros(32, 2)
    teacher_NC[batch.rows, 1 - batch.targets.long()] = 8.0
    training.run(60, batches=itertools.repeat(batch), teacher_logits=teacher_NC)
    answers_B = training.model.eval()(**batch.inputs()).logits.argmax(-1)
    assert (answers_B == 1 - batch.targets).float().mean() > 0.8


def test_the_best_validation_is_kept() -> None:
    hyper = HYPERPARAMETERS.model_copy(update={"validations": 3, "keep_best": True})
    training, kept = Training(hyper), []
    scores = iter([1.0, 3.0, 2.0])

    def validate() -> float:
        kept.append(tiny.state(training.model))
        return next(scores)

    training.run(10, validate=validate)
    after = training.model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in kept[1].items())
    assert not all(torch.equal(after[name], weight) for name, weight in kept[2].items())


def test_too_many_validations_without_a_better_one_end_the_run_early() -> None:
    hyper = HYPERPARAMETERS.model_copy(update={"validations": 5, "patience": 2})
    scores = iter([1.0, 0.5, 1.0, 7.0, 7.0])
    # At the target from step 36 of 50 on: every third step is validated.
    cost = Training(hyper).run(50, validate=lambda: next(scores))
    assert cost.steps == 44


def test_nothing_is_validated_before_the_target_sparsity() -> None:
    hyper = HYPERPARAMETERS.model_copy(update={"validations": 4})
    training, seen = Training(hyper), []

    def validate() -> float:
        seen.append(next(iter(training.sparse.layers.values())).sparsity)
        return 0.0

    training.run(20, validate=validate)
    assert seen == [0.6] * 4


def test_half_precision_leaves_the_factors_in_full() -> None:
    training = Training(HYPERPARAMETERS.model_copy(update={"precision": "bfloat16"}))
    training.run(3)
    layer = next(iter(training.sparse.layers.values()))
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
