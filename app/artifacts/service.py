"""The rules of downloads: what there is, and why there is nothing yet."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts import parts, queries
from app.artifacts.tables import Artifact
from app.jobs.states import Status
from app.jobs.tables import Job
from app.problems import Problem


async def published(session: AsyncSession, job: Job) -> list[Artifact]:
    return list(await session.scalars(queries.published(job.id)))


async def logs(session: AsyncSession, job: Job) -> list[Artifact]:
    return list(await session.scalars(queries.logs(job.id)))


async def checkpoint(session: AsyncSession, job: Job, format_name: str | None) -> Artifact:
    """A finished job's archive, in the format asked for or the first one of its spec.

    Raises:
        Problem: 409 where the job has not succeeded, 404 where it published no such format.
    """
    if job.status != Status.SUCCEEDED:
        raise Problem(
            409,
            "job_not_succeeded",
            f"The job is {job.status}: there is no checkpoint.",
            remedy="Wait until its status is succeeded; GET /jobs/{id} tells.",
        )
    wanted = format_name or job.spec["formats"][0]
    artifacts = {str(artifact.format): artifact for artifact in await published(session, job)}
    if wanted not in artifacts:
        raise Problem(
            404,
            "no_such_format",
            f"The job published no {wanted} checkpoint.",
            field="format",
            remedy=f"It published: {', '.join(artifacts)}.",
        )
    return artifacts[wanted]


def file(artifact: Artifact, name: str) -> parts.Part:
    """One file of an archive.

    Raises:
        Problem: 404 where it has no file of that name.
    """
    for part in parts.files(artifact):
        if part.name == name:
            return part
    raise Problem(
        404,
        "no_such_file",
        f"The {artifact.format} checkpoint has no such file.",
        field="name",
        remedy="GET /jobs/{id}/artifacts lists its files.",
    )
