"""What must hold of a run however it was disturbed; each function names what does not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from tests.faults.chaos.record import Event, JobState, Note, Record
from tests.faults.toy import expected_result

TERMINAL = ("succeeded", "failed", "cancelled")
EXPLAINED = ("worker_lost", "trainer_crashed")  # what a nemesis that kills can make of a job
ANSWERS = (None, 200, 202, 204, 404, 409, 503)
THAW_SECONDS = 2.0  # for a process that was stopped to find out that its lease is over, and end


@dataclass(frozen=True, slots=True)
class Budgets:
    lost_attempts: int
    failed_attempts: int


def check(record: Record, budgets: Budgets) -> list[str]:
    """All that is wrong; empty where the run was as it should be."""
    jobs = [
        problem
        for job in record.jobs.values()
        for found in (
            events_numbered(job),
            one_end_a_run(job),
            attempts_in_order(job),
            within(job, budgets),
        )
        for problem in found
    ]
    whole = [
        problem
        for find in (
            nothing_lost,
            nothing_posted_twice,
            answers_known,
            cancels_kept,
            one_trainer_a_job,
            one_trainer_a_device,
            artifacts_in_order,
            results_as_expected,
            storage_as_rows,
        )
        for problem in find(record)
    ]
    return jobs + whole


def events_numbered(job: JobState) -> Iterator[str]:
    numbers = [event.seq for event in job.events]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"{job.id}: its events are numbered {numbers}"


def one_end_a_run(job: JobState) -> Iterator[str]:
    """Each run has ended once, or the last is paused; and the status says the same."""
    runs = runs_of(job.events)
    if len(runs) != job.run:
        yield f"{job.id}: in run {job.run}, with events of {len(runs)}"
    for number, events in enumerate(runs, 1):
        ends = [event.type for event in events if event.type in TERMINAL]
        if number == len(runs) and job.status not in TERMINAL:
            if ends or job.status != "paused":
                yield f"{job.id}: is {job.status}, its ends are {ends}"
        elif len(ends) != 1:
            yield f"{job.id}: run {number} has the ends {ends}"
        elif number == len(runs) and ends != [job.status]:
            yield f"{job.id}: is {job.status}, ended {ends[0]}"


def attempts_in_order(job: JobState) -> Iterator[str]:
    """An attempt begins when it is started, and no older one writes a word from then on."""
    for before, event in pairwise(job.events):
        begins = event.type == "started"
        if event.attempt != before.attempt + begins:
            yield f"{job.id}: event {event.seq} ({event.type}) is of attempt {event.attempt}"
    started = sum(event.type == "started" for event in job.events)
    if started != job.attempt:
        yield f"{job.id}: attempt {job.attempt}, started {started} times"


def within(job: JobState, budgets: Budgets) -> Iterator[str]:
    if job.lost_attempts > budgets.lost_attempts:
        yield f"{job.id}: lost {job.lost_attempts} attempts in a row"
    if job.failed_attempts > budgets.failed_attempts:
        yield f"{job.id}: failed {job.failed_attempts} attempts in a row"
    if job.status == "failed" and job.error not in EXPLAINED:
        yield f"{job.id}: failed with {job.error}"


def nothing_lost(record: Record) -> Iterator[str]:
    """What was accepted is there, unless it was deleted; what was deleted is gone."""
    asked = {call.job for call in record.calls if call.op == "delete"}
    deleted = {call.job for call in record.calls if call.op == "delete" and call.answer == 204}
    for call in record.calls:
        if call.op != "post" or call.job is None:
            continue
        if call.job not in record.jobs and call.job not in asked:
            yield f"{call.job}: was accepted and is not there"
    for job in record.jobs.values():
        if job.deleted or job.id in deleted:
            yield f"{job.id}: was deleted and is still there"


def nothing_posted_twice(record: Record) -> Iterator[str]:
    """Each post was sent again until it was answered: there is no job that no answer named."""
    told = {call.job for call in record.calls if call.op == "post"}
    for job in record.jobs.keys() - told:
        yield f"{job}: nobody was told of it"


def answers_known(record: Record) -> Iterator[str]:
    for call in record.calls:
        if call.answer not in ANSWERS:
            yield f"{call.job}: {call.op} was answered with {call.answer}"


def cancels_kept(record: Record) -> Iterator[str]:
    for call in record.calls:
        job = record.jobs.get(call.job or "")
        if call.op != "cancel" or call.answer != 202 or call.run is None or job is None:
            continue
        events = runs_of(job.events)[call.run - 1]
        if [event.type for event in events if event.type in TERMINAL] != ["cancelled"]:
            yield f"{job.id}: run {call.run} was cancelled, and ended otherwise"


def one_trainer_a_job(record: Record) -> Iterator[str]:
    """A process that was stopped and goes on needs a moment to find out that it is too late."""
    thaws = [deed for deed in record.deeds if deed.what == "thaw"]

    def is_excused(note: Note) -> bool:
        return any(
            note.pid in thaw.pids and thaw.at <= note.at <= thaw.at + THAW_SECONDS for thaw in thaws
        )

    yield from _overlaps("job", [note for note in record.notes if not is_excused(note)])


def one_trainer_a_device(record: Record) -> Iterator[str]:
    yield from _overlaps("device", record.notes)


def _overlaps(by: Literal["job", "device"], notes: Sequence[Note]) -> Iterator[str]:
    times: dict[str, dict[int, list[float]]] = {}
    for note in notes:
        key = note.job if by == "job" else note.device
        times.setdefault(key, {}).setdefault(note.pid, []).append(note.at)
    for key, processes in times.items():
        spans = sorted((min(at), max(at), pid) for pid, at in processes.items())
        for (_, end, first), (start, _, second) in pairwise(spans):
            if start < end:
                yield f"{key}: processes {first} and {second} train for {end - start:.2f} s at once"


def artifacts_in_order(record: Record) -> Iterator[str]:
    for artifact in record.artifacts:
        for event in record.jobs[artifact.job].events:
            later = event.type == "started" and event.attempt > artifact.attempt
            if later and event.at < artifact.at:
                yield f"{artifact.key}: made after attempt {event.attempt} was started"


def results_as_expected(record: Record) -> Iterator[str]:
    """A step lost, doubled or taken from a stale snapshot changes the hash."""
    for job in record.jobs.values():
        found = [
            list(artifact.files)
            for artifact in record.artifacts
            if artifact.job == job.id and artifact.kind == "checkpoint"
        ]
        expected = [[expected_result(job.steps)]] if job.status == "succeeded" else []
        if found != expected:
            yield f"{job.id}: is {job.status}, and stores {found} instead of {expected}"


def storage_as_rows(record: Record) -> Iterator[str]:
    rows = {artifact.key: artifact for artifact in record.artifacts}
    for key, row in rows.items():
        if row.state != "ready":
            yield f"{key}: is {row.state} for ever"
        elif record.objects.get(key) != row.sha256:
            yield f"{key}: stored are {record.objects.get(key)}, not {row.sha256}"
    for key in record.objects.keys() - rows.keys():
        yield f"{key}: is stored, and no row knows it"


def runs_of(events: Sequence[Event]) -> list[list[Event]]:
    runs: list[list[Event]] = [[]]
    for event in events:
        if event.type == "retried":
            runs.append([])
        runs[-1].append(event)
    return runs
