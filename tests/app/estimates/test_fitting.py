"""What is offered of a job that does not fit is a change that is foreseen to."""

import pytest

from app.estimates.fitting import smallest_change
from pst_core.forecast import MemoryForecast, StageMemory
from pst_core.spec import CompressionSpec

FIXED, A = 1000, 100  # bytes beside activations, and those of one example


def stage(examples: int) -> StageMemory:
    return StageMemory(
        process=FIXED,
        weights=0,
        added=0,
        gradients=0,
        optimizer=0,
        activations=A * examples,
        scratch=0,
    )


def spec(batch_size: int, **hyper: object) -> CompressionSpec:
    """It splices as many as there are."""
    return CompressionSpec.model_validate(
        {
            "model": "pkg:m",
            "dataset": "pkg:d",
            "sparsity": 0.5,
            "baseline": "train",
            "hyperparameters": {"batch_size": batch_size, "splices": 1, **hyper},
        }
    )


def memory(batch_size: int) -> MemoryForecast:
    idle = stage(0)
    return MemoryForecast(
        loading=idle,
        baseline=stage(batch_size),
        training=stage(2 * batch_size),
        exporting=idle,
        verifying=idle,
    )


@pytest.mark.parametrize(
    ("batch_size", "limit", "expected", "peak"),
    [
        # Shares alone change no result, and come first.
        (4, FIXED + 4 * A, {"accumulation": 2}, FIXED + 4 * A),
        # One example cannot be shared: what is spliced beside it can be left out.
        (1, FIXED + A, {"accumulation": 1, "splices": 0}, FIXED + A),
        # Half precision comes after that, and with it.
        (
            1,
            FIXED + A - 1,
            {"precision": "bfloat16", "accumulation": 1, "splices": 0},
            FIXED + 3 * A // 4,
        ),
    ],
)
def test_the_least_change_comes_first(
    batch_size: int, limit: int, expected: dict[str, object], peak: int
) -> None:
    change = smallest_change(spec(batch_size), memory(batch_size), limit)
    assert change is not None
    assert change.hyperparameters == expected
    assert change.peak_memory_bytes == peak


def test_without_a_baseline_nothing_is_spliced_either() -> None:
    asked = spec(1, precision="bfloat16")
    large = memory(1).model_copy(update={"baseline": stage(100)})
    change = smallest_change(asked, large, FIXED + A)
    assert change is not None
    assert (change.baseline, change.peak_memory_bytes) == ("none", FIXED + A)
