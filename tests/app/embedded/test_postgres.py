"""The embedded PostgreSQL, as a real process with a cluster of its own."""

import asyncio
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from app import launch
from app.embedded import EmbeddedError, Server, binaries, start_postgres
from tests.app.embedded.starter import ROOT, Starter, is_gone, processes_in, wait_until

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root")


def nobody_reaches_the_programs() -> bool:
    found = binaries.find_postgres()
    return found is not None and all(
        folder.stat().st_mode & stat.S_IXOTH for folder in (found, *found.parents)
    )


needs_nobody = pytest.mark.skipif(
    not (AS_ROOT and nobody_reaches_the_programs()),
    reason="needs root, and a checkout that is not below a private folder",
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an initialised cluster, stopped."""
    data = tmp_path_factory.mktemp("template") / "postgres"
    start_postgres(data, durable=False).stop()
    return data


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "postgres")


@pytest.fixture
def running(data: Path) -> Iterator[Server]:
    with start_postgres(data, durable=False) as started:
        yield started


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="pst-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def connect(url: str, password: str | None = None) -> "psycopg.Connection[tuple[object, ...]]":
    parts = make_url(url)
    return psycopg.connect(
        host=str(parts.query["host"]),
        port=5432,
        user=parts.username,
        password=password or parts.password,
        dbname=parts.database,
        autocommit=True,
    )


def ask(url: str, question: str) -> object:
    with connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    return None if row is None else row[0]


def tell(url: str, statement: str) -> None:
    with connect(url) as connection:
        connection.execute(statement.encode())


def sockets_of(url: str) -> Path:
    return Path(str(make_url(url).query["host"]))


def test_the_first_start_gives_a_database_that_sqlalchemy_can_use(tmp_path: Path) -> None:
    with start_postgres(tmp_path / "new" / "postgres") as started:
        engine: Engine = create_engine(started.url)
        with engine.connect() as connection:
            answer = connection.execute(
                text(
                    "SELECT current_user, current_database(), getdatabaseencoding(),"
                    " current_setting('fsync'), current_setting('data_checksums'),"
                    " current_setting('max_connections')"
                )
            ).one()
        engine.dispose()
    assert tuple(answer) == ("pst", "pst", "UTF8", "on", "on", "100")


def test_an_async_engine_takes_the_same_url(running: Server) -> None:
    async def answer() -> object:
        engine = create_async_engine(running.url)
        async with engine.connect() as connection:
            found = await connection.scalar(text("SELECT 1"))
        await engine.dispose()
        return found

    assert asyncio.run(answer()) == 1


def test_a_port_in_the_environment_changes_nothing(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    with start_postgres(data, durable=False) as started:
        engine = create_engine(started.url)
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        engine.dispose()


def test_a_wrong_password_is_refused(running: Server) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(running.url, "wrong")


def test_it_listens_on_no_port(running: Server) -> None:
    assert ask(running.url, "SHOW listen_addresses") == ""


def test_its_sockets_and_files_are_closed_to_everybody_else(running: Server, data: Path) -> None:
    sockets = sockets_of(running.url)
    assert sockets.stat().st_uid == os.geteuid()
    own = [sockets, data / "cluster", *(path for path in data.iterdir() if path.is_file())]
    assert [path for path in own if path.stat().st_mode & 0o077] == []


def test_the_password_shows_in_no_command_line_and_no_log(running: Server, data: Path) -> None:
    password = (data / "password").read_bytes()
    assert password not in Path(f"/proc/{running.pid}/cmdline").read_bytes()
    assert password not in Path(f"/proc/{running.pid}/environ").read_bytes()
    assert password not in (data / "server.log").read_bytes()
    assert password.decode() not in repr(running)


def test_data_are_kept_over_a_stop_and_over_a_kill(data: Path) -> None:
    with start_postgres(data) as first:
        tell(first.url, "CREATE TABLE kept AS SELECT 1 AS n")
    with start_postgres(data) as second:
        tell(second.url, "INSERT INTO kept VALUES (2)")
        os.kill(second.pid, signal.SIGKILL)
        # At once, while children of the dead server may still be about.
        with start_postgres(data) as third:
            assert not third.joined
            assert ask(third.url, "SELECT sum(n) FROM kept") == 3


@pytest.mark.parametrize("name", ["a \"b\", 'c' %2F é", "/".join(["deep" * 10] * 5)])
def test_any_path_will_do_and_the_folders_above_stay_as_they_are(tmp_path: Path, name: str) -> None:
    parent = tmp_path / "private"
    parent.mkdir(mode=0o700)
    with start_postgres(parent / name, durable=False) as started:
        assert ask(started.url, "SELECT 1") == 1
    assert parent.stat().st_mode & 0o777 == 0o700


def test_a_stale_pid_file_that_names_a_living_stranger_harms_neither(data: Path) -> None:
    with Popen(["/bin/sleep", "600"]) as stranger:
        (data / "cluster" / "postmaster.pid").write_text(f"{stranger.pid}\n{data}/cluster\n")
        with start_postgres(data, durable=False) as started:
            assert ask(started.url, "SELECT 1") == 1
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("content", ["", "nonsense\n", "0\n", "999999999\n"])
def test_a_damaged_or_outdated_pid_file_does_not_stop_a_start(data: Path, content: str) -> None:
    (data / "cluster" / "postmaster.pid").write_text(content)
    with start_postgres(data, durable=False) as started:
        assert ask(started.url, "SELECT 1") == 1


def test_a_server_that_somebody_started_by_hand_is_left_alone(data: Path, tmp_path: Path) -> None:
    programs = binaries.find_postgres()
    assert programs is not None
    cluster = data / "cluster"
    by_hand = [str(programs / "postgres"), "-D", str(cluster), "-h", "", "-k", str(tmp_path)]
    with Popen(launch.command(by_hand, signal="INT", user_namespace=AS_ROOT)) as process:
        wait_until((tmp_path / ".s.PGSQL.5432").exists)
        with pytest.raises(EmbeddedError, match=f"process {process.pid}, not started by pst"):
            start_postgres(data, durable=False)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0


def test_a_start_that_was_killed_half_way_through_is_done_again(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    with Starter("postgres", data) as starter:
        starter.begin()
        wait_until((data / "cluster.new" / "global").exists)
        starter.kill()
    with start_postgres(data, durable=False) as started:
        assert not started.joined
        assert ask(started.url, "SELECT 1") == 1
    assert not (data / "cluster.new").exists()


def test_a_second_start_joins_and_its_stop_leaves_the_server_alone(
    running: Server, data: Path
) -> None:
    with Starter("postgres", data) as starter:
        answer = starter.start()
        assert (answer["joined"], answer["pid"]) == (True, running.pid)
        assert ask(answer["url"], "SELECT 1") == 1
        assert starter.finish() == 0
    assert running.alive
    assert ask(running.url, "SELECT 1") == 1


def test_two_starts_at_once_on_a_fresh_folder_make_one_server(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    with Starter("postgres", data) as one, Starter("postgres", data) as other:
        one.begin()
        other.begin()
        answers = [one.answer(), other.answer()]
        assert sorted(answer["joined"] for answer in answers) == [False, True]
        assert answers[0]["pid"] == answers[1]["pid"]
        assert [ask(answer["url"], "SELECT 1") for answer in answers] == [1, 1]


def test_it_dies_with_its_parent_and_the_next_start_tidies_up(data: Path) -> None:
    with Starter("postgres", data) as starter:
        answer = starter.start()
        assert not answer["joined"]
        starter.kill()
        wait_until(lambda: is_gone(answer["pid"]) and not processes_in(data / "cluster"))
    with start_postgres(data, durable=False) as started:
        assert not started.joined
        assert not sockets_of(answer["url"]).exists()


def test_nothing_but_the_data_is_left_after_a_stop(data: Path) -> None:
    started = start_postgres(data, durable=False)
    assert len(processes_in(data / "cluster")) > 1
    started.stop()
    started.stop()
    assert not started.alive
    assert processes_in(data / "cluster") == []
    assert not sockets_of(started.url).exists()
    assert {path.name for path in data.iterdir()} == {"cluster", "lock", "password", "server.log"}


def test_a_cluster_it_cannot_read_is_an_error_that_shows_its_log(data: Path) -> None:
    (data / "cluster" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedError, match=r"initialized by PostgreSQL version 9\.6"):
        start_postgres(data, durable=False)
    assert {path.name for path in data.iterdir()} == {"cluster", "lock", "password", "server.log"}


def test_a_missing_program_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PST_PG_BIN", str(tmp_path))
    with pytest.raises(EmbeddedError, match=r"pst-service\[standalone\].*PST_DATABASE_URL"):
        start_postgres(tmp_path / "postgres")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EmbeddedError, match=r"PostgreSQL cannot use .*file/postgres"):
        start_postgres(tmp_path / "file" / "postgres")


def test_the_system_s_postgresql_serves_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("no PostgreSQL of the system's own is installed")
    monkeypatch.setenv("PST_PG_BIN", str(found[-1]))
    with start_postgres(tmp_path / "postgres", durable=False) as started:
        assert ask(started.url, "SELECT 1") == 1
        assert ask(started.url, "SHOW data_checksums") == "on"


@needs_root
def test_an_ordinary_user_can_start_it(public: Path) -> None:
    home = public / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    with Starter("postgres", home / "postgres", python=as_nobody(public)) as starter:
        answer = starter.start()
        assert "error" not in answer
        assert ask(answer["url"], "SELECT 1") == 1
        assert Path(f"/proc/{answer['pid']}").stat().st_uid == 65534
        assert starter.finish() == 0
    with pytest.raises(EmbeddedError, match="belongs to user 65534: run as them"):
        start_postgres(home / "postgres")


@needs_nobody
def test_where_namespaces_are_refused_root_has_it_run_as_nobody(public: Path) -> None:
    data = public / "postgres"
    with Starter("postgres", data, python=without_namespaces()) as starter:
        answer = starter.start()
        assert "error" not in answer
        assert ask(answer["url"], "SELECT 1") == 1
        assert Path(f"/proc/{answer['pid']}").stat().st_uid == 65534
        assert starter.finish() == 0
    assert stat.S_IMODE((data / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE((data / "cluster").stat().st_mode) == 0o700


@needs_nobody
def test_as_nobody_it_dies_with_its_parent_too_and_can_be_started_again(public: Path) -> None:
    data = public / "postgres"
    with Starter("postgres", data, python=without_namespaces()) as starter:
        pid = starter.start()["pid"]
        os.kill(parent_of(pid), signal.SIGKILL)
        wait_until(lambda: is_gone(pid))
    with Starter("postgres", data, python=without_namespaces()) as starter:
        answer = starter.start()
        assert answer["joined"] is False
        assert ask(answer["url"], "SELECT 1") == 1
        assert starter.finish() == 0


@needs_nobody
def test_a_cluster_made_in_a_namespace_is_handed_over_where_namespaces_are_refused(
    template: Path, public: Path
) -> None:
    data = shutil.copytree(template, public / "postgres")
    with Starter("postgres", data, python=without_namespaces()) as starter:
        answer = starter.start()
        assert ask(answer["url"], "SELECT 1") == 1
        assert starter.finish() == 0


@needs_root
def test_where_nobody_cannot_reach_the_data_the_error_says_what_to_do(tmp_path: Path) -> None:
    with Starter("postgres", tmp_path / "postgres", python=without_namespaces()) as starter:
        answer = starter.start()
    assert "Permission denied" in answer["error"]
    assert "Run as an ordinary user. Choose another data folder" in answer["error"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("PPid:")[1].split()[0])


def as_nobody(public: Path) -> tuple[str, ...]:
    """Python as an ordinary user, with everything it loads shown below a folder it can reach."""
    script = """
at=$1; interpreter=$2; shift 2
for kind in prefix packages root; do
    mkdir "$at/$kind" && mount --bind "$1" "$at/$kind" && shift || exit
done
export PYTHONPATH="$at/root:$at/packages" LD_LIBRARY_PATH="$at/prefix/lib"
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$at/prefix/bin/$interpreter" "$@"
"""
    interpreter = Path(sys.executable).resolve()
    shown = (interpreter.parents[1], Path(psycopg.__file__).parents[1], ROOT)
    shell = ("/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, "sh", str(public))
    return (*shell, interpreter.name, *map(str, shown))


def without_namespaces() -> tuple[str, ...]:
    """Python as a root that may change users but may not make user namespaces.

    The way there is a namespace with all users in it, whose own limit of namespaces is set to none.
    The outer Python writes the map, since only an outsider may map all users.
    """
    outer = """
import os, subprocess, sys, time
limit = "echo 0 > /proc/sys/user/max_user_namespaces && exec \\"$@\\""
inner = f"read -r _ <&3; exec 3<&- /bin/sh -c '{limit}' sh \\"$@\\""
r, w = os.pipe()
os.dup2(r, 3)
argv = ["/usr/bin/unshare", "--user", "/bin/sh", "-c", inner, "sh"]
process = subprocess.Popen([*argv, *sys.argv[1:]], pass_fds=[3])
mine = os.stat("/proc/self/ns/user").st_ino
while os.stat(f"/proc/{process.pid}/ns/user").st_ino == mine:
    time.sleep(0.01)
for kind in ("uid", "gid"):
    with open(f"/proc/{process.pid}/{kind}_map", "w") as file:
        file.write("0 0 65536")
os.write(w, b"\\n")
sys.exit(process.wait())
"""
    return (sys.executable, "-c", outer, sys.executable)
