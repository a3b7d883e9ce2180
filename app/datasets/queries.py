"""Statements on uploaded datasets, run by the API and the worker alike."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    Update,
    delete,
    exists,
    func,
    insert,
    null,
    select,
    update,
)
from sqlalchemy.orm import defer

from app.datasets.tables import STORED, Dataset, State
from app.jobs.states import TERMINAL
from app.jobs.tables import Job

BATCH = 100  # of a sweep
MOST_JOBS = 10  # that a refusal names


def announce(dataset: Mapping[str, Any], lease_seconds: float) -> Executable:
    """Insert the row of what is about to be uploaded."""
    return insert(Dataset).values(**dataset, lease_until=_after(lease_seconds))


def prolong(dataset_id: str, lease_seconds: float, charged_bytes: int | None = None) -> Executable:
    """Say that an upload goes on; no row comes back where a sweep has given it up."""
    values: dict[str, Any] = {"lease_until": _after(lease_seconds)}
    if charged_bytes is not None:
        values["charged_bytes"] = charged_bytes
    return _being_uploaded(dataset_id).values(**values).returning(Dataset.id)


def store(dataset_id: str, *, size: int, sha256: str, gzip: bool) -> Executable:
    """Say that the bytes of an upload are all there."""
    values = {"size": size, "sha256": sha256, "gzip": gzip, "charged_bytes": size}
    return (
        _being_uploaded(dataset_id)
        .values(state=State.VALIDATING, lease_until=null(), **values)
        .returning(Dataset)
    )


def give_up(dataset_id: str) -> Update:
    """Leave an upload to the sweep; nothing counts it any more."""
    return _being_uploaded(dataset_id).values(
        state=State.DELETING, charged_bytes=0, lease_until=null()
    )


def drop(dataset_id: str) -> Executable:
    """Remove the row of an upload of which there are no bytes."""
    return delete(Dataset).where(Dataset.id == dataset_id, Dataset.state == State.UPLOADING)


def same(project_id: str, *, name: str, sha256: str, format_name: str) -> Select[Dataset]:
    """The dataset of a project that has this content under this name, if there is one."""
    return select(Dataset).where(
        Dataset.project_id == project_id,
        Dataset.name == name,
        Dataset.sha256 == sha256,
        Dataset.format == format_name,
        Dataset.state.in_(STORED),
    )


def one(project_id: str, dataset_id: str) -> Select[Dataset]:
    return select(Dataset).where(owned(project_id, dataset_id))


def page(project_id: str, name: str | None, *, before: str | None, limit: int) -> Select[Dataset]:
    """Newest first; ids sort by age, so an id is the cursor."""
    query = select(Dataset).where(Dataset.project_id == project_id, Dataset.state != State.DELETING)
    if name is not None:
        query = query.where(Dataset.name == name)
    if before is not None:
        query = query.where(Dataset.id < before)
    # A profile is long, and no list shows it.
    shown = query.options(defer(Dataset.profile, raiseload=True))
    return shown.order_by(Dataset.id.desc()).limit(limit)


def owned(project_id: str, dataset_id: str) -> ColumnElement[bool]:
    return (
        (Dataset.project_id == project_id)
        & (Dataset.id == dataset_id)
        & (Dataset.state != State.DELETING)
    )


def jobs_that_need(project_id: str, dataset_id: str) -> Select[str]:
    return (
        select(Job.id)
        .where(
            Job.project_id == project_id,
            Job.dataset_id == dataset_id,
            Job.status.not_in(sorted(TERMINAL)),
        )
        .order_by(Job.id)
        .limit(MOST_JOBS)
    )


def retire(project_id: str, dataset_id: str) -> Update:
    """Hide a dataset; a sweep removes it."""
    return update(Dataset).where(owned(project_id, dataset_id)).values(state=State.DELETING)


def any_unchecked() -> Select[bool]:
    return select(exists(select(Dataset.id).where(_unchecked())))


def claim_check(lease_seconds: float) -> Executable:
    """Take the next dataset to check: the oldest that nobody is at."""
    candidate = (
        select(Dataset.id)
        .where(_unchecked())
        .order_by(Dataset.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return (
        update(Dataset)
        .where(Dataset.id == candidate)
        .values(attempt=Dataset.attempt + 1, lease_until=_after(lease_seconds))
        .returning(Dataset)
    )


def renew_check(dataset: Dataset, lease_seconds: float) -> Executable:
    """Prolong a check's lease; no row comes back where it is no longer whose who asks."""
    changed = update(Dataset).where(_checked_by(dataset.id, dataset.attempt))
    return changed.values(lease_until=_after(lease_seconds)).returning(Dataset.id)


def end_check(dataset: Dataset, state: State, **values: object) -> Executable:
    """Write what a check has found, if it is still the one that counts."""
    return (
        update(Dataset)
        .where(_checked_by(dataset.id, dataset.attempt))
        .values(state=state, checked_at=func.clock_timestamp(), lease_until=null(), **values)
        .returning(Dataset.id)
    )


def leave_check(dataset: Dataset, *, after_seconds: float) -> Executable:
    """Let another check begin so much later."""
    changed = update(Dataset).where(_checked_by(dataset.id, dataset.attempt))
    return changed.values(lease_until=_after(after_seconds)).returning(Dataset.id)


def fail_checks(error: Mapping[str, Any], *, max_attempts: int) -> Executable:
    """Refuse datasets whose every check was lost."""
    return (
        update(Dataset)
        .where(
            Dataset.state == State.VALIDATING,
            Dataset.attempt >= max_attempts,
            Dataset.lease_until < func.clock_timestamp(),
        )
        .values(
            state=State.INVALID,
            error=dict(error),
            checked_at=func.clock_timestamp(),
            lease_until=null(),
        )
        .returning(Dataset.id)
    )


def retire_broken_off() -> Update:
    """Give up the uploads whose process is gone."""
    gone = (Dataset.state == State.UPLOADING) & (Dataset.lease_until < func.clock_timestamp())
    return update(Dataset).where(gone).values(state=State.DELETING)


def to_remove() -> Select[Dataset]:
    return (
        select(Dataset)
        .where(Dataset.state == State.DELETING)
        .options(defer(Dataset.profile, raiseload=True))
        .limit(BATCH)
    )


def forget(dataset_id: str) -> Executable:
    """Remove the row of a dataset whose bytes are gone."""
    return delete(Dataset).where(Dataset.id == dataset_id, Dataset.state == State.DELETING)


def known_keys(keys: Collection[str]) -> Select[str]:
    return select(Dataset.storage_key).where(Dataset.storage_key.in_(keys))


MAX_CHECKS = 3


def _unchecked() -> ColumnElement[bool]:
    free = Dataset.lease_until.is_(None) | (Dataset.lease_until < func.clock_timestamp())
    return (Dataset.state == State.VALIDATING) & free & (Dataset.attempt < MAX_CHECKS)


def _checked_by(dataset_id: str, attempt: int) -> ColumnElement[bool]:
    """The fence: true while this check of the dataset is the one that counts."""
    return (
        (Dataset.id == dataset_id)
        & (Dataset.attempt == attempt)
        & (Dataset.state == State.VALIDATING)
    )


def _being_uploaded(dataset_id: str) -> Update:
    return update(Dataset).where(Dataset.id == dataset_id, Dataset.state == State.UPLOADING)


def _after(seconds: float) -> ColumnElement[Any]:
    return func.clock_timestamp() + timedelta(seconds=seconds)
