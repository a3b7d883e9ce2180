"""A real job, killed in each of the ways there are, and paused; `make kills` does it more often."""

from pathlib import Path

from tests.faults.kills import DISTURBANCES, problems, run


def test_a_killed_and_paused_job_ends_with_the_checkpoint_of_one_left_alone(tmp_path: Path) -> None:
    assert problems(*run(len(DISTURBANCES), seed=1, folder=tmp_path)) == []
