"""The rules of jobs as repositories: which names they have, and which bytes a name means."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts import parts, queries
from app.artifacts.tables import Artifact
from app.hub.errors import Code, HubError, no_repo
from app.jobs import queries as job_queries
from app.jobs.states import Status
from app.jobs.tables import Job
from app.sweeps import queries as sweep_queries

JOBS, SWEEPS = "jobs", "sweeps"
ID = re.compile(r"[A-Za-z0-9_]{1,64}")
MAIN = "main"
DENSE = "dense"  # every client opens it
COMMIT_DIGITS = 40
GATE_MISSED = "quality-gate; This checkpoint scores lower than its job allowed; see the report."
PACKED = (
    "packed; Only after `import pst_core` do these files load. A job that is asked for the format "
    "dense has that as its main revision, and needs nothing."
)


@dataclass(frozen=True, slots=True)
class Repo:
    """A finished job and its formats; ``revisions`` has them by name, ``main`` first."""

    name: str
    job: Job
    revisions: Mapping[str, Artifact]


@dataclass(frozen=True, slots=True)
class Revision:
    """One format of it, under whichever of its names."""

    repo: Repo
    artifact: Artifact

    @property
    def commit(self) -> str:
        return commit_of(self.artifact)

    @property
    def headers(self) -> dict[str, str]:
        """Of every answer about it."""
        warning = self._warning()
        said = {"X-HF-Warning": warning} if warning else {}
        return {"X-Repo-Commit": self.commit} | said

    def _warning(self) -> str | None:
        # Clients print one.
        if _missed_gate(self.repo.job.result):
            return GATE_MISSED
        return PACKED if self.artifact.format == "packed" else None

    @property
    def files(self) -> list[parts.Part]:
        return list(parts.files(self.artifact))

    def file(self, path: str) -> parts.Part:
        """One file.

        Raises:
            HubError: EntryNotFound.
        """
        for file in self.files:
            if file.name == path:
                return file
        raise self.no_entry(path)

    def no_entry(self, path: str) -> HubError:
        message = f"The {self.artifact.format} checkpoint has no {path!r}."
        return HubError(Code.ENTRY, message, commit=self.commit)


def commit_of(artifact: Artifact) -> str:
    """What a commit is to Git: a name for exactly these bytes; 160 bits, as many as Git's."""
    return (artifact.sha256 or "")[:COMMIT_DIGITS]


async def find_repo(session: AsyncSession, project_id: str, repo_id: str) -> Repo:
    """A job by its repository's name, which is its own or that of the sweep it was picked from.

    Raises:
        HubError: RepoNotFound, the same for another project's job and for none at all; GatedRepo
            where the job has not succeeded, or nothing was picked.
    """
    namespace, _, name = repo_id.partition("/")
    if namespace not in (JOBS, SWEEPS) or not ID.fullmatch(name):
        raise no_repo()
    job_id = name if namespace == JOBS else await _picked(session, project_id, name)
    job = await session.scalar(job_queries.one(project_id, job_id))
    if job is None:
        raise no_repo()
    if job.status != Status.SUCCEEDED:
        raise HubError(
            Code.UNFINISHED, f"The job is {job.status}: only one that succeeded has a checkpoint."
        )
    published = {
        str(each.format): each for each in await session.scalars(queries.published(job.id))
    }
    # What any client opens; or else what was asked for first, of what could be made.
    order = [name for name in (DENSE, *job.spec["formats"]) if name in published]
    return Repo(repo_id, job, {MAIN: published[order[0]], **published} if order else {})


async def _picked(session: AsyncSession, project_id: str, sweep_id: str) -> str:
    if await session.scalar(sweep_queries.one(project_id, sweep_id)) is None:
        raise no_repo()
    pick = await session.scalar(sweep_queries.picked(project_id, sweep_id))
    if pick is None:
        raise HubError(
            Code.UNFINISHED, f"No job was picked: PUT /sweeps/{sweep_id}/pick names one."
        )
    return pick.job_id


def find_revision(repo: Repo, name: str) -> Revision:
    """A format of a job: by its name, as ``main``, or by its commit.

    Raises:
        HubError: RevisionNotFound.
    """
    commits = {commit_of(artifact): artifact for artifact in repo.revisions.values()}
    artifact = {**repo.revisions, **commits}.get(name)
    if artifact is None:
        message = f"The job has no revision {name!r}. It has: {', '.join(repo.revisions)}."
        raise HubError(Code.REVISION, message)
    return Revision(repo, artifact)


def _missed_gate(result: Mapping[str, Any] | None) -> bool:
    outcome = (result or {}).get("outcome") or {}
    return (outcome.get("gate") or {}).get("passed") is False
