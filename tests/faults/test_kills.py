"""A real job, killed in each of the ways there are; ``make kills`` does it more often."""

from pathlib import Path

from tests.faults.kills import VICTIMS, problems, run


def test_a_killed_job_ends_with_the_checkpoint_of_one_left_alone(tmp_path: Path) -> None:
    assert problems(*run(len(VICTIMS), seed=1, folder=tmp_path)) == []
