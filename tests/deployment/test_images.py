"""The container files against the code: their commands, variables, paths and limits are its own."""

import json
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from app.cli import cli
from app.main import create_app
from app.queue import JOBS_QUEUE, MAINTENANCE_QUEUE
from app.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
ENV_EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
ONE_SHOT = "migrate"
LONG_RUNNING = sorted(SERVICES.keys() - {ONE_SHOT})

SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|KEY|AUTH")
# ${NAME}, ${NAME:-default} or ${NAME:?message}
INTERPOLATIONS = re.findall(r"\$\{(\w+)([^}]*)\}", COMPOSE)


def instruction(name: str) -> str:
    """The arguments of the last such instruction of the Dockerfile."""
    found: list[str] = re.findall(rf"^{name} +(.*)$", DOCKERFILE, re.MULTILINE)
    return found[-1]


def parse(words: list[str]) -> dict[str, Any]:
    """The options of a ``pst`` command line; raises a usage error where it is none."""
    command, context, rest = typer.main.get_command(cli), None, list(words)
    name: str | None = "pst"
    while isinstance(command, TyperGroup):
        context = typer.Context(command, info_name=name, parent=context)
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
    return command.make_context(name, rest, parent=context).params


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def image_variables() -> set[str]:
    return set(re.findall(r"\b(\w+)=", instruction("ENV")))


def settings_variables() -> set[str]:
    return {f"PST_{field.upper()}" for field in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_service_of_ours_runs_a_command_line_that_pst_accepts(name: str) -> None:
    parse(OURS[name]["command"])


def test_the_image_runs_pst_under_tini_and_by_default_the_api_for_every_address() -> None:
    assert json.loads(instruction("ENTRYPOINT")) == ["tini", "--", "pst"]
    words = json.loads(instruction("CMD"))
    assert words[0] == "api"
    assert parse(words)["host"] == "0.0.0.0"  # noqa: S104 -- inside the container


def test_each_queue_has_a_worker() -> None:
    commands = [service["command"] for service in OURS.values()]
    queues = [parse(command)["queues"] for command in commands if command[0] == "worker"]
    assert sorted(queues) == sorted([JOBS_QUEUE, MAINTENANCE_QUEUE])


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_variable_a_service_of_ours_is_given_is_a_setting(name: str) -> None:
    assert OURS[name]["environment"].keys() <= settings_variables()


def test_each_pst_variable_of_the_image_is_a_setting() -> None:
    given = {name for name in image_variables() if name.startswith("PST_")}
    assert given == {"PST_DATA"}
    assert given <= settings_variables()


def test_each_variable_of_the_example_is_read_by_compose_or_is_a_setting() -> None:
    named = set(re.findall(r"^(?:# )?(PST_\w+)=", ENV_EXAMPLE, re.MULTILINE))
    read = {name for name, _ in INTERPOLATIONS}
    assert named <= read | settings_variables()


def test_each_variable_that_compose_reads_stands_in_the_example() -> None:
    read = {name for name, _ in INTERPOLATIONS}
    assert {name for name in read if f"{name}=" not in ENV_EXAMPLE} == set()


@pytest.mark.parametrize(
    ("check", "command"),
    [
        (instruction("HEALTHCHECK"), json.loads(instruction("CMD"))),
        (" ".join(SERVICES["api"]["healthcheck"]["test"]), SERVICES["api"]["command"]),
    ],
    ids=["image", "compose"],
)
def test_the_health_check_gets_a_route_of_the_api_on_the_port_it_listens_on(
    check: str, command: list[str]
) -> None:
    match = re.search(r"httpx\.get\('http://127\.0\.0\.1:(\d+)(/\w+)'", check)
    assert match is not None
    port, path = match.groups()
    api = create_app(Settings(database_url="postgresql://db", broker_url="redis://broker"))
    assert "get" in api.openapi()["paths"][path]
    assert int(port) == parse(command)["port"]


def test_the_published_port_is_the_one_the_api_listens_on_and_only_this_host_reaches_it() -> None:
    (published,) = SERVICES["api"]["ports"]
    by_default = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", published)
    host, _, target = by_default.split(":")
    assert host == "127.0.0.1"
    assert int(target) == parse(SERVICES["api"]["command"])["port"]


def test_no_service_but_the_api_publishes_a_port() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_each_long_running_service_is_restarted_however_it_ends(name: str) -> None:
    assert SERVICES[name]["restart"] in {"always", "unless-stopped"}


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_each_service_has_a_health_check_or_says_why_it_has_none(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert "test" in check or (check["disable"] is True and check["x-reason"])


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_each_service_may_take_longer_to_stop_than_a_trainer(name: str) -> None:
    grace: float = Settings.model_fields["grace_seconds"].default
    assert seconds(SERVICES[name]["stop_grace_period"]) > grace


def test_a_worker_may_take_as_long_to_stop_as_trainer_and_lease_together() -> None:
    # Without a database it holds on to its job, to give it back, until the lease is over.
    fields = Settings.model_fields
    longest: float = fields["grace_seconds"].default + fields["lease_seconds"].default
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > longest


def test_the_migration_runs_once_as_soon_as_the_database_is_healthy() -> None:
    migration = SERVICES[ONE_SHOT]
    assert migration["restart"] == "no"
    assert migration["depends_on"] == {"postgres": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", sorted(OURS.keys() - {ONE_SHOT}))
def test_the_others_wait_for_the_migration(name: str) -> None:
    condition = OURS[name]["depends_on"][ONE_SHOT]["condition"]
    assert condition == "service_completed_successfully"


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_service_of_ours_keeps_its_data_in_the_volume_they_share(name: str) -> None:
    assert f"data:{OURS[name]['environment']['PST_DATA']}" in OURS[name]["volumes"]


def test_the_image_keeps_its_data_in_a_volume() -> None:
    assert f"PST_DATA={instruction('VOLUME')}" in instruction("ENV").split()


def test_the_image_runs_as_an_ordinary_user_named_by_number() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", instruction("USER"))


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    run = subprocess.run(
        [hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "")


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.gpu-host.yml"])
def test_each_compose_file_is_one_by_the_specifications_schema(name: str) -> None:
    validate = Path(sysconfig.get_path("scripts"), "check-jsonschema")
    run = subprocess.run(
        [validate, "--builtin-schema", "vendor.compose-spec", ROOT / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_builder_is_given_our_packages_and_what_describes_them_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    metadata = {"LICENSE", "README.md", "constraints.txt", "pyproject.toml"}
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    given = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert given == metadata | {name.rstrip("*") for name in packages}


def test_compose_stops_where_a_secret_is_not_set() -> None:
    secrets = {(name, suffix) for name, suffix in INTERPOLATIONS if SECRET.search(name)}
    message = ":?set it in .env"
    assert secrets == {("PST_POSTGRES_PASSWORD", message), ("PST_VALKEY_PASSWORD", message)}


def test_the_example_leaves_secrets_empty() -> None:
    lines = [line for line in ENV_EXAMPLE.splitlines() if SECRET.search(line.partition("=")[0])]
    given = [line.partition("=") for line in lines if "=" in line]
    assert {name: value for name, _, value in given} == {
        "PST_POSTGRES_PASSWORD": "",
        "PST_VALKEY_PASSWORD": "",
        "# PST_HUB_TOKEN": "",
        "# PST_WEBHOOK_KEY": "",
    }


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_service_is_given_a_secret_that_stands_in_the_file(name: str) -> None:
    given: dict[str, str] = SERVICES[name].get("environment", {})
    secrets = [value for variable, value in given.items() if SECRET.search(variable)]
    for value in given.values():
        secrets += re.findall(r"://\w*:([^@]*)@", value)
    assert [secret for secret in secrets if not re.fullmatch(r"\$\{[^}]*\}", secret)] == []


def test_the_image_is_built_with_no_secret() -> None:
    lines = re.findall(r"^(?:ARG|ENV) .*$", DOCKERFILE, re.MULTILINE)
    named = re.findall(r"\b(\w+)=", " ".join(lines))
    assert {"TORCH", "PST_DATA"} <= set(named)
    assert [name for name in named if SECRET.search(name)] == []


def test_our_services_log_in_to_the_database_that_postgres_makes() -> None:
    made = SERVICES["postgres"]["environment"]
    user, password, name = (made[f"POSTGRES_{part}"] for part in ("USER", "PASSWORD", "DB"))
    urls = {service["environment"]["PST_DATABASE_URL"] for service in OURS.values()}
    assert urls == {f"postgresql://{user}:{password}@postgres:5432/{name}"}


def test_our_services_and_the_health_check_give_the_password_that_valkey_asks_for() -> None:
    command = SERVICES["valkey"]["command"]
    password = command[command.index("--requirepass") + 1]
    urls = {service["environment"]["PST_BROKER_URL"] for service in OURS.values()}
    assert urls == {f"redis://:{password}@valkey:6379/0"}
    assert SERVICES["valkey"]["environment"]["REDISCLI_AUTH"] == password
