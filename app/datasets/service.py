"""The rules of datasets as callers meet them: upload, look, delete. Checking them is worker/'s."""

from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncSession

from app.datasets import queries
from app.datasets.tables import Dataset, State
from app.datasets.uploads import Upload, given_up
from app.db import release
from app.problems import Problem, not_found
from app.projects import quotas


async def upload(
    session: AsyncSession, upload: Upload, body: AsyncIterator[bytes]
) -> tuple[Dataset, bool]:
    """Take a file in, to be checked; or find that the project has it already, by this name.

    Returns:
        The dataset, and whether it is a new one.

    Raises:
        Problem: It was refused, and nothing of it is left.
    """
    await release(session)
    await upload.receive(body)
    # One at a time of a project, so that of two with the same bytes the second sees the first.
    await session.execute(quotas.limits(), {"project_id": upload.project_id})
    known = await session.scalar(
        queries.same(
            upload.project_id,
            name=upload.offer.name,
            sha256=upload.sha256,
            format_name=upload.offer.format,
        )
    )
    if known is not None:
        await session.execute(queries.give_up(upload.id))
        return known, False
    stored = queries.store(upload.id, size=upload.size, sha256=upload.sha256, gzip=upload.gzip)
    new = (await session.scalars(stored)).one_or_none()
    if new is None:
        raise given_up()
    return new, True


async def get(session: AsyncSession, project_id: str, dataset_id: str) -> Dataset:
    """One dataset of a project.

    Raises:
        Problem: 404, the same for another project's and for none at all.
    """
    dataset = await session.scalar(queries.one(project_id, dataset_id))
    if dataset is None:
        raise not_found("dataset")
    return dataset


async def page(
    session: AsyncSession, project_id: str, name: str | None, *, before: str | None, limit: int
) -> list[Dataset]:
    query = queries.page(project_id, name, before=before, limit=limit)
    return list(await session.scalars(query))


async def delete(session: AsyncSession, project_id: str, dataset_id: str) -> None:
    """Hide a dataset at once; a sweep removes its bytes within some seconds.

    Raises:
        Problem: 404; 409 while jobs that have not ended need it.
    """
    # Whoever is about to post a job with it has locked it too: one of us sees the other.
    dataset = await session.scalar(queries.one(project_id, dataset_id).with_for_update())
    if dataset is None:
        raise not_found("dataset")
    jobs = list(await session.scalars(queries.jobs_that_need(project_id, dataset_id)))
    if jobs:
        raise Problem(
            409,
            "dataset_in_use",
            f"Jobs that have not ended need it: {', '.join(jobs)}.",
            remedy="Cancel them, or wait until they have ended.",
        )
    dataset.state = State.DELETING
