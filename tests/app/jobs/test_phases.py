"""The phases of a job, between the events that begin and end them."""

from datetime import UTC, datetime, timedelta

from app.jobs.phases import Change, phases

START = datetime(2026, 1, 1, tzinfo=UTC)


def changes(*told: tuple[str, str | None, int]) -> list[Change]:
    """One each second: an event's type, the phase in its data, and the attempt."""
    return [
        Change(type=kind, phase=phase, attempt=attempt, at=START + timedelta(seconds=second))
        for second, (kind, phase, attempt) in enumerate(told)
    ]


def spans(*told: tuple[str, str | None, int]) -> list[tuple[str, int, int | None]]:
    """Each phase with the seconds of its beginning and its end."""

    def second(at: datetime) -> int:
        return (at - START).seconds

    return [
        (at.phase, second(at.started_at), second(at.finished_at) if at.finished_at else None)
        for at in phases(changes(*told))
    ]


def test_a_phase_lasts_until_the_next_begins_and_the_last_until_the_run_has_ended() -> None:
    assert spans(
        ("queued", None, 0),
        ("started", None, 1),
        ("phase", "training", 1),
        ("succeeded", None, 1),
    ) == [("queued", 0, 1), ("preparing", 1, 2), ("training", 2, 3)]


def test_the_present_phase_has_no_end() -> None:
    assert spans(("queued", None, 0)) == [("queued", 0, None)]


def test_a_trainer_that_says_it_prepares_begins_nothing_new() -> None:
    assert spans(("started", None, 1), ("phase", "preparing", 1)) == [("preparing", 0, None)]


def test_each_attempt_has_phases_of_its_own() -> None:
    found = phases(
        changes(
            ("started", None, 1), ("requeued", None, 1), ("started", None, 2), ("paused", None, 2)
        )
    )

    assert [(at.phase, at.attempt) for at in found] == [
        ("preparing", 1),
        ("queued", 1),
        ("preparing", 2),
        ("paused", 2),
    ]


def test_another_run_begins_with_no_phases_of_the_last() -> None:
    assert spans(("started", None, 1), ("failed", None, 1), ("retried", None, 1)) == [
        ("queued", 2, None)
    ]
