"""What a job's references lead to on this machine, fetched by a child where they lead to a hub.

What is downloaded, and how, is worker/fetching's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.artifacts import queries as artifact_queries
from app.artifacts.tables import Artifact
from app.datasets import queries as datasets
from app.datasets.references import named_by
from app.datasets.tables import Dataset
from app.jobs import moves
from app.jobs.references import no_base, no_baseline
from app.settings import Settings
from pst_core.errors import CheckpointCorruptError, PstError
from pst_core.events import FetchedEvent
from pst_core.references import Reference, locate_dataset, locate_model, parse_reference
from pst_core.spec import CompressionSpec
from worker.conversation import Conversation
from worker.endings import Failed
from worker.objects import Objects, is_intact
from worker.snapshots import unpack
from worker.uploads import lay_out

MAIN = "main"


@dataclass(frozen=True, slots=True)
class SourceFinder:
    """Of one attempt."""

    settings: Settings
    objects: Objects
    children: Conversation
    scratch: Path

    def find(self, spec: CompressionSpec) -> dict[str, Any]:
        """Of a child's task: the ``spec``, with nothing left open, and the ``sources``.

        Each revision is a commit, and each hyperparameter what it was when the job was accepted: a
        release whose presets are others may run it, and go on from a snapshot of the one before.

        Raises:
            Ending: Something cannot be had, or the attempt was to end.
            NotOurs: The job is somebody else's by now.
        """
        references = {"model": spec.model, "dataset": spec.dataset.ref}
        parsed = {what: parse_reference(text) for what, text in references.items()}
        on_hub = {what: each for what, each in parsed.items() if each.scheme == "hub"}
        fetched = self._fetch(on_hub) if on_hub else {}
        try:
            sources = self._located(spec, fetched)
        except PstError as error:
            raise Failed(
                error.code, error.message, field=error.field, remedy=error.remedy
            ) from error
        accepted = self.objects.held.job.hyperparameters
        pinned = spec.trained_by(accepted).model_dump(mode="json")
        if "model" in fetched:
            pinned["model"] = on_hub["model"].at(fetched["model"].commit)
        if "dataset" in fetched:
            ref = on_hub["dataset"].at(fetched["dataset"].commit)
            pinned["dataset"] = {**pinned["dataset"], "ref": ref}
        return {"spec": pinned, "sources": sources}

    def _located(
        self, spec: CompressionSpec, fetched: Mapping[str, FetchedEvent]
    ) -> dict[str, Any]:
        roots = self.settings.file_roots
        if "model" in fetched:
            model = self._folder("model")
        elif parse_reference(spec.model).scheme == "job":
            model = self._unpacked(spec.model, "base", no_base(spec.model))
        else:
            model = locate_model(spec.model, roots=roots)
        if "dataset" in fetched:
            path, where = self._folder("dataset") / (fetched["dataset"].file or ""), None
        elif (dataset_id := named_by(spec)) is not None:
            path, where = self._uploaded(dataset_id), None
        else:
            dataset = locate_dataset(spec.dataset.ref, roots=roots)
            path, where = dataset.path, dataset.where
        baseline = None
        if (job_id := spec.baseline_job) is not None:
            baseline = str(self._unpacked(job_id, "baseline", no_baseline(job_id)))
        return {"model": str(model), "dataset": str(path), "where": where, "baseline": baseline}

    def _unpacked(self, base_id: str, name: str, missing: PstError) -> Path:
        """The checkpoint of a job of the same project, from the storage.

        Raises:
            PstError: ``missing``, where there is none; or it is not as it was published.
        """
        held, found = self.objects.held, list[Artifact]()

        def look(session: Session) -> bool:
            query = artifact_queries.base_checkpoint(held.job.project_id, base_id)
            found.extend(session.scalars(query))
            return True

        held.persist(look)
        if not found:
            raise missing
        archive, folder = self.scratch / f"{name}.tar", self.scratch / name
        self.objects.storage.place(found[0].storage_key, archive)
        if not is_intact(archive, found[0].sha256):
            raise CheckpointCorruptError(
                f"The checkpoint of {base_id} has other bytes than were published.",
                field=missing.field,
                remedy="Make it anew: post that job again.",
            )
        unpack(archive, folder)
        archive.unlink()
        return folder

    def _uploaded(self, dataset_id: str) -> Path:
        """An upload of the same project, under a name that tells what it is."""
        held, found = self.objects.held, list[Dataset]()

        def look(session: Session) -> bool:
            found.extend(session.scalars(datasets.one(held.job.project_id, dataset_id)))
            return True

        held.persist(look)
        dataset = found[0] if found else None
        return lay_out(dataset, dataset_id, self.objects.storage, self.scratch / "dataset")

    def _folder(self, what: str) -> Path:
        return self.scratch / "hub" / what

    def _fetch(self, on_hub: Mapping[str, Reference]) -> dict[str, FetchedEvent]:
        """Have repositories fetched, at the commits that earlier attempts have trained."""
        if not self.settings.hub_endpoint:
            raise Failed(
                "hub_disabled",
                "The job needs a hub, and its worker fetches from none.",
                remedy="Have the operator set PST_HUB_ENDPOINT for the workers too.",
            )
        job = self.objects.held.job
        task = {
            "task": "fetch",
            "fetch": [
                {
                    "what": what,
                    "name": reference.name,
                    "revision": job.commits.get(what) or reference.revision or MAIN,
                    "part": reference.part,
                    "folder": str(self._folder(what)),
                }
                for what, reference in on_hub.items()
            ],
            "cache": str(self.settings.hub_dir),
            "cache_bytes": self.settings.hub_cache_bytes,
            "max_bytes": self.settings.hub_max_bytes,
        }
        token = self.settings.hub_token
        hub = {"HF_ENDPOINT": self.settings.hub_endpoint}
        told = self.children.run(
            task, self.scratch, hub=hub | ({"HF_TOKEN": token.get_secret_value()} if token else {})
        )
        fetched = {event.what: event for event in told.fetched}
        if set(fetched) != set(on_hub):
            raise Failed("protocol", "The fetch ended well and did not tell what it fetched.")
        commits = {what: event.commit for what, event in fetched.items()}
        # Before anything is trained: whoever goes on with it must train on the same.
        self.objects.held.require(
            moves.record(
                job.id, job.attempt, "fetched", {"commits": commits}, commits=dict(commits)
            )
        )
        return {str(what): event for what, event in fetched.items()}
