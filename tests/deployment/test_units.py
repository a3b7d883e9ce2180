"""The systemd units, the proxies and the compose file of GPU hosts against the code."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.deployment.test_images import parse, seconds, settings_variables

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
NGINX = (ROOT / "deploy" / "proxy" / "nginx.conf").read_text(encoding="utf-8")
CADDY = (ROOT / "deploy" / "proxy" / "Caddyfile").read_text(encoding="utf-8")
ENVIRONMENT = (ROOT / "deploy" / "systemd" / "environment.example").read_text(encoding="utf-8")
GPU_HOST: dict[str, Any] = yaml.safe_load(
    (ROOT / "docker-compose.gpu-host.yml").read_text(encoding="utf-8")
)
WORKER: dict[str, Any] = GPU_HOST["services"]["worker"]
FIELDS = Settings.model_fields


def values(unit: Path, name: str) -> list[str]:
    found: list[str] = re.findall(rf"^{name}=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    return found


def named(path: str) -> Path:
    return ROOT / "deploy" / "systemd" / path


def words(unit: Path) -> list[str]:
    (line,) = values(unit, "ExecStart")
    return shlex.split(line.replace("%i", "cuda:0"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_each_unit_runs_a_command_line_that_pst_accepts(unit: Path) -> None:
    program, *rest = words(unit)

    assert program.endswith("/bin/pst")
    parse(rest)


def test_each_process_of_an_installation_has_its_unit() -> None:
    commands = sorted(" ".join(words(unit)[1:4]) for unit in UNITS)

    assert commands == [
        "api --host 127.0.0.1",
        "beat",
        "worker --queues jobs",
        "worker --queues maintenance",
    ]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_in_a_unit(unit: Path, tmp_path: Path) -> None:
    # Where the program is not installed, that is all it would find.
    copy = tmp_path / unit.name.replace("@", "@auto")
    copy.write_text(unit.read_text(encoding="utf-8").replace("/opt/pst/bin/pst", "/bin/true"))
    run = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", copy],  # noqa: S607 -- the system's
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode, [line for line in run.stderr.splitlines() if unit.stem in line]) == (
        0,
        [],
    )


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_each_unit_is_started_again_however_it_ends_and_has_no_privileges(unit: Path) -> None:
    assert values(unit, "Restart") == ["always"]
    assert values(unit, "User") == ["pst"]
    assert values(unit, "NoNewPrivileges") == ["yes"]
    assert values(unit, "CapabilityBoundingSet") == [""]
    assert values(unit, "ProtectSystem") == ["strict"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_sigterm_reaches_the_main_process_alone(unit: Path) -> None:
    assert values(unit, "KillMode") == ["mixed"]


def test_a_worker_may_take_as_long_to_stop_as_trainer_and_lease_together() -> None:
    longest = FIELDS["grace_seconds"].default + FIELDS["lease_seconds"].default
    (stop,) = values(named("pst-worker@.service"), "TimeoutStopSec")

    assert int(stop) > longest
    assert seconds(WORKER["stop_grace_period"]) > longest


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_each_variable_of_a_unit_is_a_setting(unit: Path) -> None:
    given = {
        each.partition("=")[0] for line in values(unit, "Environment") for each in line.split()
    }

    assert given
    assert given <= settings_variables()
    assert values(unit, "EnvironmentFile") == ["/etc/pst/environment"]


def test_each_variable_of_the_example_is_a_setting_and_no_secret_stands_in_it() -> None:
    given = dict(re.findall(r"^(?:# )?(PST_\w+)=(.*)$", ENVIRONMENT, re.MULTILINE))

    assert given.keys() <= settings_variables()
    assert given["PST_HUB_TOKEN"] == given["PST_WEBHOOK_KEY"] == ""
    assert re.findall(r"://\w*:([^@]*)@", ENVIRONMENT) == ["…", "…"]


def test_the_environment_of_the_example_is_one_that_settings_accept() -> None:
    given = dict(re.findall(r"^PST_(\w+)=(.*)$", ENVIRONMENT, re.MULTILINE))

    Settings(**{name.lower(): value for name, value in given.items()})


def test_the_gpu_host_runs_a_worker_of_jobs_and_nothing_else() -> None:
    assert list(GPU_HOST["services"]) == ["worker"]
    assert parse(WORKER["command"])["queues"] == "jobs"
    assert WORKER["environment"].keys() <= settings_variables()
    assert "ports" not in WORKER


def test_the_gpu_host_stops_where_database_or_broker_is_not_set() -> None:
    for name in ("PST_DATABASE_URL", "PST_BROKER_URL"):
        assert WORKER["environment"][name] == f"${{{name}:?set it in .env}}"


def test_the_proxies_lead_to_the_port_that_the_unit_listens_on() -> None:
    port = parse(words(named("pst-api.service"))[1:])["port"]

    assert set(re.findall(r"127\.0\.0\.1:(\d+)", NGINX + CADDY)) == {str(port)}


def test_the_proxies_pass_streams_and_uploads_on_as_they_come() -> None:
    assert "proxy_buffering off;" in NGINX
    assert "proxy_request_buffering off;" in NGINX
    assert "flush_interval -1" in CADDY


def test_the_proxies_pass_bodies_that_the_api_takes() -> None:
    uploads = re.findall(r"location ~ \S+ \{\s+client_max_body_size (\d+)g;", NGINX)
    assert [int(size) * 2**30 for size in uploads] == [FIELDS["max_upload_bytes"].default]
    (others,) = re.findall(r"^    client_max_body_size (\d+)k;", NGINX, re.MULTILINE)
    assert int(others) * 1024 > FIELDS["max_body_bytes"].default
    caddy_upload, caddy_others = re.findall(r"max_size (\d+)", CADDY)
    assert int(caddy_upload) * 2**30 == FIELDS["max_upload_bytes"].default
    assert int(caddy_others) * 1024 > FIELDS["max_body_bytes"].default


def test_the_proxies_know_both_ways_to_upload() -> None:
    ways = {"/datasets", "/ui/datasets"}
    ((pattern, block),) = re.findall(r"location ~ (\S+) \{(.*?)\}", NGINX, re.DOTALL)

    assert all(re.search(pattern, way) for way in ways)
    assert not any(re.search(pattern, f"{way}/ds_1/delete") for way in ways)
    assert "proxy_request_buffering off;" in block
    assert "client_max_body_size" in block
    uploads, others = re.findall(r"@\w+ (?:not )?path (.*)", CADDY)
    assert set(uploads.split()) == set(others.split()) == ways


def test_the_proxy_passes_on_the_host_that_the_browser_asked() -> None:
    # With its port; the page compares it with Origin where there is no Sec-Fetch-Site.
    assert re.findall(r"proxy_set_header Host (\S+);", NGINX) == ["$http_host"]


def test_the_proxy_waits_longer_than_a_stream_is_silent() -> None:
    (wait,) = re.findall(r"proxy_read_timeout (\d+)s;", NGINX)

    assert int(wait) > 2 * FIELDS["stream_heartbeat_seconds"].default


@pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx")
def test_nginx_accepts_its_file(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",  # noqa: S607
         "-subj", "/CN=x", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    site = NGINX.replace("/etc/ssl/pst/fullchain.pem", str(certificate))
    site = site.replace("/etc/ssl/private/pst.pem", str(key))
    # It binds to what it is to listen on even when it only looks.
    site = re.sub(r"listen \[::\].*;", "", site)
    site = re.sub(r"listen (\d+)", rf"listen unix:{tmp_path}/\1", site)
    (tmp_path / "site.conf").write_text(site)
    whole = tmp_path / "nginx.conf"
    whole.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off;"
        f" include {tmp_path}/site.conf; }}"
    )
    run = subprocess.run(
        ["nginx", "-t", "-c", whole, "-p", tmp_path],  # noqa: S607
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "syntax is ok" in run.stderr, run.stderr
