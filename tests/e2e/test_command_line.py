"""A pipeline's step: one command posts a job, waits for it, and leaves a checkpoint that loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pst_core
from tests.e2e.service import PATIENCE, Service
from tests.pst_core import tiny

ROWS = "text,label\n" + "".join(
    f"{'good' if i % 2 else 'bad'} film {i},{i % 2}\n" for i in range(60)
)
FAST = ("epochs=1", "batch_size=16", "max_length=16")


def test_one_command_compresses_and_downloads(
    service: Service, shared_files: Path, tmp_path: Path
) -> None:
    folder = shared_files / "command-line"
    (folder / "tiny").mkdir(parents=True)
    tiny.save_model(folder / "tiny")
    (folder / "rows.csv").write_text(ROWS, encoding="utf-8")
    asked = ("--model", "file:command-line/tiny", "--dataset", "file:command-line/rows.csv")
    fast = [part for field in FAST for part in ("--set", f"hyperparameters.{field}")]
    command = ("jobs", "create", *asked, "--sparsity", "0.5", *fast)

    step = subprocess.run(
        [sys.executable, "-P", "-m", "app", *command, "--download", str(tmp_path), "--json"],
        env=os.environ | {"PST_URL": service.url, "PST_API_KEY": service.key},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert step.returncode == 0, step.stderr
    assert "\x1b" not in step.stdout + step.stderr
    job = json.loads(step.stdout)
    assert job["status"] == "succeeded"
    model, _ = pst_core.load(tmp_path / f"{job['id']}-packed")
    assert sum(p.numel() for p in model.parameters()) == job["result"]["outcome"]["parameters"]
