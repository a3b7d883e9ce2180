"""What happens in the service between a page's calls: what workers would do, without training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.tables import Artifact, Kind
from app.datasets import queries as datasets
from app.datasets.tables import Dataset, State
from app.jobs import moves, queries
from app.jobs.states import SUCCEED
from app.jobs.tables import Job
from app.settings import Settings
from app.storage import LocalStorage
from pst_core.report import Estimate
from pst_core.spec import CompressionSpec
from tests.artifacts import store
from tests.datasets import PROFILE
from tests.forecasts import work_out
from tests.jobs import claim, submit
from tests.published import publish
from tests.reports import report

BASELINE = "dense"


@dataclass(frozen=True)
class World:
    sessions: sessionmaker[Session]
    settings: Settings
    project_id: str
    scratch: Path

    def meanwhile(self, what: str) -> dict[str, str]:
        """Let it happen; the ids that a page then speaks of, by what they are of."""
        happens = {
            "a job has succeeded": self._job,
            "the sweep's jobs succeed": self._sweep,
            "the dataset is checked": self._dataset,
            "the estimate is worked out": self._estimate,
        }
        return happens[what]()

    def _job(self) -> dict[str, str]:
        submit(self.sessions, self.project_id)
        job = claim(self.sessions)
        rows = [
            {"step": step, "stage": "main", "loss": 0.5, "sparsity": 0.9, "learning_rate": 0.01}
            for step in range(1, 4)
        ]
        with self.sessions.begin() as session:
            session.execute(queries.write_metrics(job, rows))
        store(self.sessions, job, Kind.LOG, "log-0")
        with self.sessions() as session:
            key = session.scalars(select(Artifact.storage_key)).one()
        with LocalStorage(self.settings.storage_dir).write(key) as log:
            log.write(b"0")
        folder = self.scratch / "packed"
        folder.mkdir()
        for name in ("config.json", "model.safetensors"):
            (folder / name).write_bytes(b"{}" * 100)
        return {"job": self.publish(job, {"packed": folder})}

    def publish(self, job: Job, folders: Mapping[str, Path]) -> str:
        """Let a running job succeed with these checkpoints."""
        result = report(CompressionSpec.model_validate(job.spec)).model_dump(mode="json")
        publish(self.sessions, self.settings, job, folders, result=result)
        return job.id

    def _sweep(self) -> dict[str, str]:
        """All its jobs, the dense one first; each as good as dense, so that one can be picked."""
        while job := self._next():
            made = report(CompressionSpec.model_validate(job.spec)).outcome
            accuracy = Estimate(value=0.75, low=0.7, high=0.8)
            test = made.evaluation.test.model_copy(update={"metrics": {"accuracy": accuracy}})
            evaluation = made.evaluation.model_copy(update={"test": test})
            dense = job.spec["method"] == BASELINE
            changes = {
                "evaluation": evaluation,
                "baseline": None if dense else evaluation,
                "bytes": {"dense": 160} if dense else {"packed": 90},
            }
            outcome = made.model_copy(update=changes).model_dump(mode="json")
            values = {"result": {"outcome": outcome}}
            with self.sessions.begin() as session:
                for statement in moves.leave_running(SUCCEED, job.id, job.attempt, values=values):
                    session.scalars(statement).all()
        return {}

    def _next(self) -> Job | None:
        with self.sessions.begin() as session:
            claimed = moves.claim(worker="test", device="cpu", lease_seconds=30)
            return session.scalars(claimed).one_or_none()

    def _dataset(self) -> dict[str, str]:
        with self.sessions.begin() as session:
            dataset: Dataset = session.scalars(datasets.claim_check(30)).one()
            session.execute(datasets.end_check(dataset, State.READY, profile=PROFILE))
        return {}

    def _estimate(self) -> dict[str, str]:
        work_out(self.sessions)
        return {}
