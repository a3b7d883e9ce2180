"""What an installation can be told by its environment (``PST_…``). Nothing here connects."""

import json
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pst_core.references import PACKAGED_DATASETS, PACKAGED_MODELS

Network = IPv4Network | IPv6Network
Seconds = Annotated[float, Field(gt=0)]
BUCKETS = ("s3", "gs", "az")
DRIVER = "postgresql+psycopg"
POSTGRES = ("postgres", "postgresql", DRIVER)
BROKERS = ("redis", "rediss", "redis+socket", "sentinel")


class SettingsError(ValueError):
    """The environment has settings that cannot be; names them, and repeats no value."""


class Settings(BaseSettings):
    """Read from ``PST_NAME`` for each field; ``pst serve`` hands its own on to its processes."""

    model_config = SettingsConfigDict(
        env_prefix="PST_",
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        # What is not accepted may be a secret that is too short.
        hide_input_in_errors=True,
    )

    data: Path = Path("pst-data")
    """Embedded servers' data, checkpoints, locks and scratch space."""
    database_url: str | None = None
    """PostgreSQL. Unset: an embedded one in the data folder."""
    broker_url: str | None = None
    """Redis or Valkey. Unset: an embedded one in the data folder."""
    storage_url: str | None = None
    """Where checkpoints, snapshots, logs and uploads lie: `file:///PATH`, or a bucket of an object
    store, `s3://BUCKET/PREFIX`, `gs://…` or `az://…`. Unset: the folder `storage` in the data
    folder."""
    storage_options: SecretStr | None = None
    """How a bucket is reached, a JSON object such as `{"endpoint": "https://minio:9000",
    "access_key_id": "…", "secret_access_key": "…"}`; obstore's documentation has the names.
    Unset: by the provider's usual variables (`AWS_…`) and the host's own identity."""
    storage_redirect: bool = True
    """Whether clients get whole archives from the bucket itself, by a redirect to a signed link.
    False, where they can't reach it: the API sends all bytes."""
    storage_link_seconds: Annotated[float, Field(ge=1, le=7 * 24 * 3600)] = 300.0
    """How long such a link is good."""
    storage_timeout_seconds: Seconds = 60.0
    """How long one request to the bucket may take, up to 16 MiB; repeated, all of it twice as
    long."""
    file_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders that `file:` references may lead into, separated by colons. None: none do."""
    packages: Annotated[tuple[str, ...], NoDecode] = (*PACKAGED_MODELS, *PACKAGED_DATASETS)
    """Names that `pkg:` references may use, separated by colons."""
    hub_endpoint: str = "https://huggingface.co"
    """The hub that `hub:` references are fetched from. Empty: none is asked, they are refused."""
    hub_token: SecretStr | None = None
    """What the hub knows this installation by: for private and gated repositories. All projects may
    use what it may read."""
    hub_max_bytes: Annotated[int, Field(ge=1)] = 64 * 2**30
    """What is fetched of one repository, at the most."""
    hub_cache_bytes: Annotated[int, Field(ge=0)] = 128 * 2**30
    """How much of what was fetched is kept for other jobs; what running ones use is not counted
    out."""
    lease_seconds: Seconds = 30.0
    """How long a running job is a worker's without a renewal."""
    renew_seconds: Seconds = 5.0
    """How often a lease is renewed and cancel requests are looked for."""
    grace_seconds: Seconds = 20.0
    """How long a trainer that was asked to stop may take before it is killed."""
    poll_seconds: Seconds = 15.0
    """How often an idle worker asks the database for jobs whose wake-up got lost."""
    sweep_seconds: Seconds = 10.0
    """How often expired leases are looked for."""
    trainer_memory_bytes: Annotated[int, Field(ge=2**30)] | None = None
    """How much memory a trainer on a CPU may use before its job fails with `out_of_memory`. Unset:
    all that the host has."""
    snapshot_seconds: Seconds = 300.0
    """How often a trainer saves its state; the most work that the loss of a worker can cost."""
    no_progress_seconds: Seconds = 3600.0
    """How long a trainer may go without a step, a phase or a score before its job fails."""
    max_lost_attempts: Annotated[int, Field(ge=1)] = 20
    """A job fails with `worker_lost` once it has lost this many attempts to infrastructure, in a
    row: none of them got further than the one before."""
    max_failed_attempts: Annotated[int, Field(ge=1)] = 3
    """A job whose attempts fail in a way that another may not fails for good after this many."""
    backoff_seconds: Seconds = 5.0
    """How long a job waits after such an attempt, or a lost one; doubled for each further one."""
    keep_snapshots_seconds: Seconds = 7 * 24 * 3600.0
    """How long the snapshots of a failed or cancelled job are kept for a retry."""
    keep_jobs_seconds: Seconds | None = None
    """How long a job that has ended is kept, with its checkpoints; then it is deleted as if its
    owner had. Unset: until they do."""
    webhook_key: Annotated[SecretStr, Field(min_length=32)] | None = None
    """What the secrets of webhook endpoints are made of. Unset: a file in the data folder, made at
    first need."""
    webhook_http: bool = False
    """Whether endpoints may be plain HTTP: for tests and closed networks."""
    webhook_ports: Annotated[tuple[int, ...], NoDecode] = (443,)
    """Ports that endpoints may have, separated by commas."""
    webhook_networks: Annotated[tuple[Network, ...], NoDecode] = ()
    """Networks that endpoints may be in although their addresses are private or special, separated
    by commas, such as `10.1.0.0/16`."""
    webhook_senders: Annotated[int, Field(ge=2, le=64)] = 8
    """How many endpoints a maintenance worker sends to at once; half of them only to those that
    took the last delivery."""
    webhook_poll_seconds: Seconds = 1.0
    """How often it looks for deliveries."""
    webhook_timeout_seconds: Seconds = 15.0
    """For one attempt, from looking up the name to the answer."""
    webhook_backoff_seconds: Seconds = 5.0
    """How long a delivery waits after its first failed attempt; doubled for each further one."""
    webhook_max_backoff_seconds: Seconds = 8 * 3600.0
    """How long it waits at the most, whatever `Retry-After` says."""
    webhook_give_up_seconds: Seconds = 2 * 24 * 3600.0
    """For how long it is tried."""
    webhook_disable_seconds: Seconds = 5 * 24 * 3600.0
    """An endpoint is switched off that has taken nothing for so long."""
    keep_deliveries_seconds: Seconds = 7 * 24 * 3600.0
    """How long a delivery is listed after it was delivered or given up."""
    key_requests_per_second: Annotated[float, Field(gt=0)] = 200.0
    """Of a key, by each API process, in the long run."""
    key_requests_burst: Annotated[int, Field(ge=1)] = 2000
    """Of a key, at once."""
    bad_keys_per_second: Annotated[float, Field(gt=0)] = 5.0
    """Of an address, by each API process, in the long run; beyond, a key that this process does
    not know is not looked up."""
    bad_keys_burst: Annotated[int, Field(ge=1)] = 500
    """Of an address, at once."""
    max_queued_jobs: Annotated[int, Field(ge=0)] = 1000
    """Of a project: those that wait in its queue, or are paused. `pst projects limit` gives a
    project a quota of its own, of these three."""
    max_running_jobs: Annotated[int, Field(ge=0)] = 100
    """Of a project: further ones wait, although a worker is free."""
    max_stored_bytes: Annotated[int, Field(ge=0)] = 2**40
    """Of a project: with as many or more it can post no further job."""
    max_webhook_endpoints: Annotated[int, Field(ge=0)] = 20
    """Of a project."""
    max_body_bytes: Annotated[int, Field(ge=1)] = 256 * 1024
    """Of a request."""
    body_seconds: Seconds = 20.0
    """In which the body of a request must have arrived."""
    max_upload_bytes: Annotated[int, Field(ge=1)] = 10 * 2**30
    """Of an uploaded dataset."""
    upload_seconds: Seconds = 3600.0
    """In which an upload must have arrived."""
    upload_bytes_per_second: Annotated[float, Field(gt=0)] = 10_000.0
    """How fast it must come, from the first PST_BODY_SECONDS on; nothing may be missing for as long
    as those either."""
    check_seconds: Seconds = 300.0
    """How long a check of an uploaded dataset may take."""
    check_memory_bytes: Annotated[int, Field(ge=2**28)] = 2**30
    """How much memory it may use."""
    max_streams: Annotated[int, Field(ge=1)] = 1000
    """How many streams of events and logs an API process keeps open."""
    max_streams_per_key: Annotated[int, Field(ge=1)] = 50
    """How many of them one key may have."""
    stream_poll_seconds: Seconds = 0.5
    """How often an API process asks the database what is new of the jobs that are streamed."""
    stream_heartbeat_seconds: Seconds = 15.0
    """How long a stream of events is silent at the most."""
    stream_max_seconds: Seconds = 3600.0
    """How long a stream lives; clients then come again and go on."""
    stream_stalled_seconds: Seconds = 30.0
    """How long a stream's client may take nothing before it is dropped."""

    metrics_port: Annotated[int, Field(ge=1, le=65533)] | None = None
    """Where Prometheus asks the API; the jobs worker is asked one port further on, the maintenance
    worker two. Unset: nobody listens."""
    metrics_host: str = "127.0.0.1"
    """The address of those ports. Who reaches them may read: no key is asked for."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Of what is logged. At `info` each request is a line."""
    log_format: Literal["json", "text"] | None = None
    """Unset: text on a terminal, else JSON, a record a line."""

    @field_validator("file_roots", "packages", mode="before")
    @classmethod
    def _split_at_colons(cls, value: object) -> object:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value

    @field_validator("webhook_ports", "webhook_networks", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value

    @field_validator("hub_endpoint")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        if url and not url.startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://, or be empty")
        return url.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _name_the_driver(cls, url: str | None) -> str | None:
        if not url:
            return None
        scheme, _, rest = url.partition("://")
        if scheme not in POSTGRES:
            raise ValueError("must begin with postgresql://")
        try:
            _ = urlsplit(url).port
        except ValueError:
            # What was taken for it may be a part of the password.
            raise ValueError("has no port: write / and @ in a password as %2F and %40") from None
        return f"{DRIVER}://{rest}"

    @field_validator("broker_url")
    @classmethod
    def _is_a_broker(cls, url: str | None) -> str | None:
        if url and url.partition("://")[0] not in BROKERS:
            raise ValueError("must begin with redis:// or rediss://")
        return url or None

    @field_validator("data", "file_roots")
    @classmethod
    def _make_absolute(cls, value: Path | tuple[Path, ...]) -> Path | tuple[Path, ...]:
        # The processes of one installation may be started from different folders.
        if isinstance(value, tuple):
            return tuple(path.absolute() for path in value)
        return value.absolute()

    @field_validator("storage_url")
    @classmethod
    def _names_a_place(cls, url: str | None) -> str | None:
        if not url:
            return None
        parts = urlsplit(url)
        where = parts.netloc
        if parts.scheme == "file":
            # A host is none that files are got from, and a path that is relative is each process's.
            where = parts.path if not parts.netloc and parts.path.startswith("/") else ""
        is_plain = not (parts.query or parts.fragment or "@" in parts.netloc)
        if parts.scheme not in ("file", *BUCKETS) or not where or not is_plain:
            # Not repeated: whoever writes credentials into it must not find them in a log.
            raise ValueError("must be file:///PATH or s3://, gs:// or az:// and BUCKET/PREFIX")
        return url

    @field_validator("storage_options")
    @classmethod
    def _is_an_object(cls, options: SecretStr | None) -> SecretStr | None:
        try:
            is_object = options is None or isinstance(json.loads(options.get_secret_value()), dict)
        except ValueError:
            is_object = False
        if not is_object:
            raise ValueError("must be a JSON object")
        return options

    @property
    def stores_remotely(self) -> bool:
        return self.storage_url is not None and not self.storage_url.startswith("file:")

    @property
    def storage_dir(self) -> Path:
        """Of a storage that is a folder."""
        url = urlsplit(self.storage_url or "")
        return Path(unquote(url.path)) if url.scheme == "file" else self.data / "storage"

    @property
    def scratch_dir(self) -> Path:
        return self.data / "scratch"

    @property
    def hub_dir(self) -> Path:
        # Beside the scratch folder: a file has names in both.
        return self.data / "hub"

    @property
    def devices_dir(self) -> Path:
        return self.data / "devices"


def read_settings(**given: Any) -> Settings:
    """The environment's, but for what is given.

    Raises:
        SettingsError: Some cannot be.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = "; ".join(_tell(each["loc"], each["msg"]) for each in error.errors())
        raise SettingsError(f"{wrong}. Correct it, or unset it for its default.") from None


def _tell(place: tuple[int | str, ...], message: str) -> str:
    return f"PST_{str(place[0]).upper()}: {message.removeprefix('Value error, ')}"
