"""Jobs: posted, followed, acted on, and what they leave. The long answers are in streams.py."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from app.artifacts.schemas import ArtifactList, ArtifactOut
from app.client.downloads import Download, Downloaded
from app.client.errors import UnexpectedAnswerError
from app.client.streams import follow_events, follow_log
from app.client.transport import Transport, once, parse
from app.events.schemas import JobEventOut
from app.jobs.schemas import JobDetail, JobSummary, ResolvedJob
from app.jobs.states import TERMINAL
from app.metrics.schemas import JobMetricOut
from pst_core.report import Report

WAIT = 30
Action = Literal["cancel", "pause", "resume", "retry"]
Spec = Mapping[str, Any]


class Jobs:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, spec: Spec, *, idempotency_key: str | None = None) -> JobDetail:
        """Post a job.

        Args:
            spec: As `POST /jobs` takes it, `placement` and `metadata` included.
            idempotency_key: Under which it is posted once, whoever sends it again within a day;
                None: the client makes one, good for its own tries.
        """
        return self._transport.post("/jobs", JobDetail, spec, headers=once(idempotency_key))

    def validate(self, spec: Spec) -> ResolvedJob:
        """What would be run; nothing is stored."""
        query = {"validate_only": True}
        return self._transport.post("/jobs", ResolvedJob, spec, query=query, repeatable=True)

    def get(self, job_id: str) -> JobDetail:
        return self._transport.get(f"/jobs/{job_id}", JobDetail)

    def list(
        self, filters: Mapping[str, Any] | None = None, *, most: int | None = None
    ) -> Iterator[JobSummary]:
        """The newest first; `filters` as `GET /jobs` has them."""
        return self._transport.pages("/jobs", JobSummary, filters, most=most)

    def changes(self, job_id: str) -> Iterator[JobDetail]:
        """How it stands now, and after each change, until it has ended."""
        headers: dict[str, str] = {}
        while True:
            # Without a tag, the first look would wait for a change.
            query = {"wait": WAIT} if headers else {}
            answer = self._transport.send("GET", f"/jobs/{job_id}", query=query, headers=headers)
            if answer.status_code == HTTPStatus.NOT_MODIFIED:
                continue
            headers = {"If-None-Match": answer.headers.get("ETag", "")}
            job = parse(JobDetail, answer)
            yield job
            if job.status in TERMINAL:
                return

    def wait(self, job_id: str) -> JobDetail:
        """The job, once it has ended."""
        *_, job = self.changes(job_id)
        return job

    def events(self, job_id: str, *, after: int = 0) -> Iterator[JobEventOut]:
        """What happened and happens, without a gap, until it has ended."""
        return follow_events(self._transport, job_id, after)

    def log(self, job_id: str, *, tail: int | None = None) -> str:
        query = {} if tail is None else {"tail": tail}
        return self._transport.send("GET", f"/jobs/{job_id}/logs", query=query).text

    def follow_log(self, job_id: str, *, tail: int | None = None) -> Iterator[bytes]:
        """The log, or its last lines, and what is added until the job has ended."""
        return follow_log(self._transport, job_id, tail)

    def metrics(self, job_id: str, *, points: int | None = None) -> Iterator[JobMetricOut]:
        """Loss, sparsity and rate by step: all, or an outline of so many points."""
        path = f"/jobs/{job_id}/metrics"
        if points is None:
            return self._transport.pages(path, JobMetricOut)
        return self._transport.pages(path, JobMetricOut, {"points": points}, most=points)

    def act(self, job_id: str, action: Action) -> JobDetail:
        # Once retried, a job cannot be retried again: that would be told as an error.
        repeatable = action != "retry"
        return self._transport.post(f"/jobs/{job_id}/{action}", JobDetail, repeatable=repeatable)

    def delete(self, job_id: str) -> None:
        """With all that it stored."""
        self._transport.delete(f"/jobs/{job_id}")

    def report(self, job_id: str) -> Report:
        return self._transport.get(f"/jobs/{job_id}/report", Report)

    def artifacts(self, job_id: str) -> Sequence[ArtifactOut]:
        return self._transport.get(f"/jobs/{job_id}/artifacts", ArtifactList).data

    def download(
        self,
        job_id: str,
        target: Path,
        *,
        format_name: str | None = None,
        unpack: bool = False,
        told: Callable[[int, int], None] = lambda _done, _of: None,
    ) -> Downloaded:
        """Fetch a checkpoint; only what has the published SHA-256 gets the final name.

        Args:
            job_id: Of a job that has succeeded.
            target: A folder that there is, or the file to write.
            format_name: Which; default: that which the spec names first, of those there are.
            unpack: Leave the folder that the archive holds, in place of the archive.
            told: How far it is: bytes that are there, and all.

        Raises:
            CorruptDownloadError: Other bytes came.
            ClientError: It is not to be had, or broke off for longer than is waited.
        """
        path = f"/jobs/{job_id}/checkpoint"
        artifact = self._choose(job_id, format_name)
        query = {"format": artifact.format}
        return Download(self._transport, path, query, artifact).fetch(
            target, unpack=unpack, told=told
        )

    def _choose(self, job_id: str, format_name: str | None) -> ArtifactOut:
        query = {"format": format_name} if format_name else {}
        for _ in range(2):
            found = {artifact.format: artifact for artifact in self.artifacts(job_id)}
            wanted = [format_name] if format_name else self.get(job_id).spec.formats
            for name in wanted:
                if name in found:
                    return found[name]
            # Why there is none, the service tells best; unless the job has succeeded meanwhile.
            with self._transport.stream("GET", f"/jobs/{job_id}/checkpoint", params=query):
                pass
        raise UnexpectedAnswerError(f"{job_id} has a checkpoint that its artifacts do not list")
