"""What the API costs beside the least that could do the same: ``python benchmarks/api.py``.

Servers on one core, ``wrk`` and PostgreSQL on the others; what is compared is the servers' own
processor time, side by side in one run. It needs ``wrk`` and ``nginx``.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from sqlalchemy import Engine, Text, cast, func, insert, literal, select, text, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import sessionmaker

from app.artifacts.tables import Artifact, Kind, State
from app.backends import environment, running_backends
from app.connections import SERVER
from app.db import CONNECT_ARGS, POOL_SIZE, sync_engine, upgrade
from app.examples import SMALLEST
from app.ids import new_id
from app.jobs import queries, submission
from app.jobs.schemas import JobCreate
from app.jobs.tables import Job, JobEvent
from app.projects.service import NewKey, create_key
from app.settings import Settings

OTHERS = list(range(1, os.cpu_count() or 1)) or [0]
CONNECTIONS = 8
ROUNDS = 3  # of each, taking turns: the median counts
STREAMS = 500
PAGE = 50
DEEP = 1000  # pages
FILE_BYTES = 256 << 20


@dataclass(frozen=True)
class Bench:
    """An installation without workers, and the servers that are compared."""

    settings: Settings
    engine: Engine
    key: NewKey
    seconds: int

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key.key}"}

    def end_all(self) -> None:
        """Empty the queue: no project's quota lets so many jobs wait as a round posts."""
        ended = {"status": "cancelled", "finished_at": func.now()}
        with self.engine.begin() as connection:
            connection.execute(update(Job).where(Job.status == "queued").values(ended))

    def submit(self) -> str:
        row = job_row(self.key.project_id)
        with sessionmaker(self.engine).begin() as session:
            session.execute(*submission.submit(row))
        return str(row["id"])


def job_row(project_id: str) -> dict[str, Any]:
    spec = JobCreate.model_validate(SMALLEST)
    return {
        "id": new_id("job"),
        "project_id": project_id,
        "spec": spec.model_dump(mode="json", exclude={"placement", "metadata"}),
        "hyperparameters": spec.resolved_hyperparameters().model_dump(mode="json"),
    }


def bare(url: str, project_id: str) -> FastAPI:
    """The same SELECT, and the same rows in one transaction, and nothing else."""
    app = FastAPI()
    engine = create_async_engine(
        url, pool_size=POOL_SIZE, max_overflow=0, pool_pre_ping=True, connect_args=CONNECT_ARGS
    )

    @app.get("/jobs/{job_id}")
    async def show(job_id: str) -> JSONResponse:
        which = {"project_id": project_id, "job_id": job_id}
        async with engine.connect() as connection:
            row = (await connection.execute(queries.shown(), which)).mappings().one()
        return JSONResponse(json.loads(json.dumps(dict(row), default=str)))

    @app.post("/jobs", status_code=202)
    async def submit(spec: dict[str, Any]) -> JSONResponse:
        row = job_row(project_id) | {"spec": spec}
        async with engine.begin() as connection:
            await connection.execute(insert(Job).values(status="queued", event_seq=1, **row))
            event = {"job_id": row["id"], "seq": 1, "attempt": 0, "type": "queued", "data": {}}
            await connection.execute(insert(JobEvent).values(project_id=project_id, **event))
        return JSONResponse({"id": row["id"]}, 202)

    return app


@contextmanager
def serving(bench: Bench, kind: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server on core 0; where it is, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        fd = listener.fileno()
        command = {
            "ours": [sys.executable, "-m", "app", "api", "--fd", str(fd)],
            "bare": [sys.executable, __file__, "--bare", str(fd), bench.key.project_id],
        }[kind]
        limits = {
            "PST_KEY_REQUESTS_PER_SECOND": "1e9",
            "PST_KEY_REQUESTS_BURST": "1000000000",
            "PST_MAX_QUEUED_JOBS": "1000000000",
            "PST_MAX_STREAMS_PER_KEY": str(2 * STREAMS),
        }
        process = subprocess.Popen(
            command, env=os.environ | environment(bench.settings) | limits, pass_fds=[fd]
        )
        psutil.Process(process.pid).cpu_affinity([0])
    try:
        httpx.get(f"{url}/openapi.json", timeout=60, trust_env=False).raise_for_status()
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def nginx(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; error_log stderr; pid {folder}/nginx.pid;"
        "events {} http { access_log off; sendfile on; "
        f"server {{ listen 127.0.0.1:{port}; root {folder}; }} }}"
    )
    program = shutil.which("nginx") or "nginx"
    process = subprocess.Popen([program, "-p", folder, "-c", folder / "nginx.conf"])
    psutil.Process(process.pid).cpu_affinity([0])
    try:
        time.sleep(1)
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def wrk(
    bench: Bench, url: str, process: psutil.Process, *, script: str = ""
) -> tuple[int, float, float]:
    """How many answers a server gave, and bytes, and the processor time it took, in seconds."""
    before = process.cpu_times()
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as lua:
        lua.write(f'wrk.headers["Authorization"] = "Bearer {bench.key.key}"\n{script}')
        lua.flush()
        program = shutil.which("wrk") or "wrk"
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{bench.seconds}", "-s", lua.name]
        with subprocess.Popen(
            [program, *options, url], stdout=subprocess.PIPE, text=True
        ) as asking:
            psutil.Process(asking.pid).cpu_affinity(OTHERS)
            told, _ = asking.communicate()
    after = process.cpu_times()
    if "Non-2xx" in told:
        raise RuntimeError(told)
    found = re.search(r"(\d+) requests in \S+, ([\d.]+)([KMGT]?)B read", told)
    if found is None:
        raise RuntimeError(told)
    count, size, unit = found.groups()
    took = after.user + after.system - before.user - before.system
    return int(count), float(size) * 1024 ** " KMGT".index(unit or " "), took


def compare(bench: Bench, path: str, script: str = "") -> tuple[float, float, float]:
    """Ours against the bare route: the ratio of processor time an answer, and each in seconds."""
    costs: dict[str, list[float]] = {"ours": [], "bare": []}
    with serving(bench, "ours") as ours, serving(bench, "bare") as other:
        for _ in range(ROUNDS):
            for kind, (url, process) in (("ours", ours), ("bare", other)):
                if script:  # which posts have alone
                    bench.end_all()
                count, _, seconds = wrk(bench, url + path, process, script=script)
                costs[kind].append(seconds / count)
    mine, theirs = (statistics.median(costs[kind]) for kind in ("ours", "bare"))
    return mine / theirs, mine, theirs


def fill(bench: Bench, count: int) -> None:
    """So many jobs that have ended, by one statement."""
    row = job_row(bench.key.project_id) | {"status": "cancelled", "event_seq": 1}
    number = func.generate_series(1, count).column_valued("number")
    job_id = literal("job_0") + func.lpad(cast(number, Text), 31, "0")
    columns = [name for name in row if name != "id"]
    values = [literal(row[name], Job.__table__.c[name].type) for name in columns]
    with bench.engine.begin() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        ended = select(job_id, func.now(), *values)
        connection.execute(insert(Job).from_select(["id", "finished_at", *columns], ended))
    with bench.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE jobs"))


def pages(bench: Bench) -> tuple[float, float]:
    """Seconds that the first page takes, and one far down: medians, taking turns."""
    with (
        serving(bench, "ours") as (url, _),
        httpx.Client(base_url=url, headers=bench.headers, timeout=60, trust_env=False) as client,
    ):
        cursor = None
        for _ in range(DEEP * PAGE // 1000):
            page = client.get(
                "/jobs", params={"limit": 1000} | ({"cursor": cursor} if cursor else {})
            )
            cursor = page.raise_for_status().json()["next_cursor"]
        took: dict[str, list[float]] = {"first": [], "deep": []}
        for _ in range(20):
            for name, params in (("first", {}), ("deep", {"cursor": cursor})):
                began = time.perf_counter()
                client.get("/jobs", params={"limit": PAGE, **params}).raise_for_status()
                took[name].append(time.perf_counter() - began)
    return statistics.median(took["first"]), statistics.median(took["deep"])


def streams(bench: Bench) -> tuple[float, int]:
    """Bytes and database connections that idle streams cost."""
    job_ids = [bench.submit() for _ in range(20)]

    def connections() -> int:
        with bench.engine.connect() as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            return int(connection.execute(text(query)).scalar_one())

    with serving(bench, "ours") as (url, process):
        host, port = url.removeprefix("http://").split(":")
        request = (
            "GET /jobs/{}/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{}\r\n\r\n"
        )
        for job_id in job_ids:
            httpx.get(f"{url}/jobs/{job_id}", headers=bench.headers, trust_env=False)
        memory, before = process.memory_info().rss, connections()
        opened = []
        for number in range(STREAMS):
            opened.append(socket.create_connection((host, int(port))))
            authorization = f"Authorization: {bench.headers['Authorization']}"
            opened[-1].sendall(request.format(job_ids[number % 20], authorization).encode())
            opened[-1].recv(65536)
        time.sleep(5)
        grown = process.memory_info().rss - memory, connections() - before
        for each in opened:
            each.close()
    return grown


def download(bench: Bench, folder: Path) -> tuple[float, float]:
    """Bytes a processor second, ours and nginx's."""
    job_id = bench.submit()
    content = os.urandom(1 << 20) * (FILE_BYTES >> 20)
    key = f"{bench.key.project_id}/{job_id}/packed"
    for path in (bench.settings.storage_dir / key, folder / "file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    row = {
        "id": new_id("art"),
        "project_id": bench.key.project_id,
        "job_id": job_id,
        "attempt": 1,
        "kind": Kind.CHECKPOINT,
        "state": State.READY,
        "format": "packed",
        "name": f"{job_id}-packed.tar",
        "storage_key": key,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "files": [],
    }
    with bench.engine.begin() as connection:
        connection.execute(insert(Artifact).values(row))
        connection.execute(
            text("UPDATE jobs SET status = 'succeeded', finished_at = now() WHERE id = :id"),
            {"id": job_id},
        )
    rates: dict[str, list[float]] = {"ours": [], "nginx": []}
    with serving(bench, "ours") as (url, process), nginx(folder) as (other, worker):
        checkpoint = f"{url}/jobs/{job_id}/checkpoint"
        # Hashed once, before it is counted.
        httpx.get(checkpoint, headers=bench.headers | {"Range": "bytes=0-0"}, timeout=60)
        for _ in range(ROUNDS):
            for name, asked, who in (
                ("ours", checkpoint, process),
                ("nginx", f"{other}/file", worker),
            ):
                _, size, seconds = wrk(bench, asked, who)
                rates[name].append(size / seconds)
    return statistics.median(rates["ours"]), statistics.median(rates["nginx"])


def rows(bench: Bench, folder: Path, jobs: int) -> Iterator[tuple[str, str, str]]:
    job_id = bench.submit()
    ratio, mine, theirs = compare(bench, f"/jobs/{job_id}")
    yield "GET /jobs/{id}, CPU", f"{ratio:.2f}", f"{mine * 1e3:.2f} / {theirs * 1e3:.2f} ms"
    post = (
        'wrk.method = "POST"; wrk.headers["Content-Type"] = "application/json"; '
        f"wrk.body = [[{json.dumps(SMALLEST)}]]"
    )
    ratio, mine, theirs = compare(bench, "/jobs", post)
    yield "POST /jobs, CPU", f"{ratio:.2f}", f"{mine * 1e3:.2f} / {theirs * 1e3:.2f} ms"
    served, plain = download(bench, folder)
    speeds = f"{served / 1e9:.2f} / {plain / 1e9:.2f} GB a CPU second"
    yield "download against nginx", f"{served / plain:.2f}", speeds
    memory, connections = streams(bench)
    yield f"{STREAMS} idle streams", f"+{memory / 1e6:.0f} MB", f"+{connections} connections"
    fill(bench, jobs)
    first, deep = pages(bench)
    times = f"{deep * 1e3:.1f} / {first * 1e3:.1f} ms"
    yield f"page {DEEP} of {jobs:,} jobs against page 1", f"{deep / first:.2f}", times


def main(seconds: int, jobs: int) -> None:
    missing = [name for name in ("wrk", "nginx") if shutil.which(name) is None]
    if missing:
        sys.exit(f"install {', '.join(missing)} first")
    with (
        tempfile.TemporaryDirectory(prefix="pst-bench-") as folder,
        running_backends(Settings(data=Path(folder) / "data")) as settings,
    ):
        upgrade(settings.database_url or "")
        engine = sync_engine(settings.database_url or "")
        with engine.begin() as connection:
            key = create_key(connection, name="bench")
        bench = Bench(settings, engine, key, seconds)
        print("| what | ratio | each |\n|---|---|---|", flush=True)
        for row in rows(bench, Path(folder), jobs):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bare", nargs=2, help="serve the bare routes: a descriptor, a project")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    arguments = parser.parse_args()
    if arguments.bare:
        descriptor, project = arguments.bare
        bare_app = bare(Settings().database_url or "", project)
        config = uvicorn.Config(bare_app, log_config=None, **SERVER)
        uvicorn.Server(config).run([socket.socket(fileno=int(descriptor))])
    else:
        main(arguments.seconds, arguments.jobs)
