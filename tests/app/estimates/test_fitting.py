"""What is offered of a job that does not fit is a change that is foreseen to."""

import pytest

from app.estimates.fitting import smallest_change
from pst_core.forecast import MemoryForecast, StageMemory
from pst_core.spec import CompressionSpec

FIXED, A = 1000, 100  # bytes beside activations, and those of one example


def stage(examples: int, answers: int = 0) -> StageMemory:
    return StageMemory(
        process=FIXED,
        weights=0,
        added=0,
        gradients=0,
        optimizer=0,
        activations=A * examples,
        scratch=0,
        answers=answers,
    )


def spec(batch_size: int, **hyper: object) -> CompressionSpec:
    return CompressionSpec.model_validate(
        {
            "model": "pkg:m",
            "dataset": "pkg:d",
            "sparsity": 0.5,
            "baseline": "train",
            "hyperparameters": {"batch_size": batch_size, **hyper},
        }
    )


def memory(batch_size: int) -> MemoryForecast:
    idle = stage(0)
    return MemoryForecast(
        loading=idle,
        baseline=stage(batch_size),
        training=stage(batch_size),
        exporting=idle,
        verifying=idle,
    )


@pytest.mark.parametrize(
    ("batch_size", "limit", "expected", "peak"),
    [
        # Shares alone change no result, and come first.
        (4, FIXED + 2 * A, {"accumulation": 2}, FIXED + 2 * A),
        # One example cannot be shared.
        (1, FIXED + A - 1, {"precision": "bfloat16", "accumulation": 1}, FIXED + 3 * A // 4),
    ],
)
def test_the_least_change_comes_first(
    batch_size: int, limit: int, expected: dict[str, object], peak: int
) -> None:
    change = smallest_change(spec(batch_size), memory(batch_size), limit)
    assert change is not None
    assert change.hyperparameters == expected
    assert change.peak_memory_bytes == peak


@pytest.mark.parametrize(
    ("limit", "baseline"), [(FIXED + 2 * A, None), (FIXED + A, "none"), (FIXED + A - 1, "")]
)
def test_splices_are_left_out_for_the_memory_of_their_answers(
    limit: int, baseline: str | None
) -> None:
    # One answer for each own example, and four for what is spliced of them.
    asked = spec(1, epochs=4, splice_sets=4, precision="bfloat16")
    large = memory(1).model_copy(update={"training": stage(1, 5 * A)})
    change = smallest_change(asked, large, limit)
    if baseline == "":
        assert change is None
        return
    assert change is not None
    assert change.baseline == baseline
    assert change.hyperparameters == {"accumulation": 1} | ({} if baseline else {"splices": 0})
    assert change.peak_memory_bytes == limit


def test_half_precision_and_no_splices_are_offered_together_where_neither_is_enough() -> None:
    large = memory(1).model_copy(update={"training": stage(1, 5 * A)})
    change = smallest_change(spec(1, epochs=4, splice_sets=4), large, FIXED + 3 * A // 4 + A)
    assert change is not None
    assert change.hyperparameters == {"accumulation": 1, "precision": "bfloat16", "splices": 0}
    assert change.peak_memory_bytes == FIXED + 3 * A // 4 + A


def test_what_does_not_fit_beside_its_baseline_can_do_without_one() -> None:
    asked = spec(1, precision="bfloat16")
    large = memory(1).model_copy(update={"baseline": stage(100)})
    change = smallest_change(asked, large, FIXED + A)
    assert change is not None
    assert (change.baseline, change.peak_memory_bytes) == ("none", FIXED + A)
