"""How a bucket is reached: whose it is, how long it is waited for, and what is told of its errors.

Its own words go to the log alone, and never with a secret in them.
"""

import errno
import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from app.settings import Settings
from app.storage.contract import StorageError, StorageSettingsError

logger = logging.getLogger(__name__)

RETRIES = 4
# Of an option, or of a variable that the providers' clients read.
SECRET = re.compile("key|secret|token|password|credential|sas", re.IGNORECASE)
# Options of the connection, whoever the provider is. obstore takes them apart from the others, and
# panics where one is among those.
OF_CLIENT = frozenset(
    (
        *("allow_http", "allow_invalid_certificates", "connect_timeout", "default_content_type"),
        *("default_headers", "http1_only", "http2_keep_alive_interval", "http2_keep_alive_timeout"),
        *("http2_keep_alive_while_idle", "http2_max_frame_size", "http2_only"),
        *("pool_idle_timeout", "pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes"),
        *("proxy_url", "randomize_addresses", "read_timeout", "root_certificate", "timeout"),
        "user_agent",
    )
)
REDACTED = "[redacted]"
MOST_SAID = 500  # characters of an error; the rest is its inside
# An answer that says that it is the request that is wrong, and so the settings: there is no such
# bucket, no such key, another region, or too small a role.
AT_FAULT = re.compile(r"status code: 4(?!08|29)\d\d|incorrectly configured region")
REMEDY = "Correct them, or unset both to store in the data folder."
NOWHERE = "nothing-lies-here"  # a listing of it costs little, and needs the bucket all the same


class Client:
    """Of one bucket.

    Args:
        url: `s3://BUCKET/PREFIX`, or of another provider.
        options: As obstore's configuration has them; before those of the environment.
        timeout: In seconds, for one request; all repetitions of one may take twice as long.
        retries: How often a request is repeated.

    Raises:
        StorageSettingsError: There is no such provider, or no such option of it.
    """

    def __init__(
        self, url: str, options: Mapping[str, Any], *, timeout: float, retries: int = RETRIES
    ) -> None:
        told = {**os.environ, **options}
        self._secrets = {str(value) for name, value in told.items() if SECRET.search(name)}
        of_client = {name: value for name, value in options.items() if name in OF_CLIENT}
        # Which options there are differs from provider to provider; it tells itself.
        connect: Any = from_url
        try:
            self.store: Any = connect(
                url,
                config={name: value for name, value in options.items() if name not in OF_CLIENT},
                client_options={
                    "timeout": timedelta(seconds=timeout),
                    "connect_timeout": timedelta(seconds=min(timeout, 5)),
                    **of_client,
                },
                retry_config={
                    "max_retries": retries,
                    "retry_timeout": timedelta(seconds=2 * timeout),
                },
            )
        except BaseError as error:
            raise self._at_fault("name no storage", error) from None

    @classmethod
    def of(
        cls, settings: Settings, *, patience: float | None = None, retries: int = RETRIES
    ) -> "Client":
        """The client of an installation's bucket; with less patience than it has, if need be."""
        options = settings.storage_options
        return cls(
            settings.storage_url or "",
            json.loads(options.get_secret_value()) if options else {},
            timeout=min(patience or math.inf, settings.storage_timeout_seconds),
            retries=retries,
        )

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """A request; its errors become the contract's.

        Args:
            what: It is to do, a verb.
        """
        try:
            yield
        except FileNotFoundError:
            self._require_bucket(what)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
        except AlreadyExistsError:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        except BaseError as error:
            raise self._failed(what, error) from None

    def _require_bucket(self, what: str) -> None:
        """Tell a missing bucket from a missing object: of both, HEAD says 404 and nothing more.

        Raises:
            StorageError: There is no bucket, or it does not say.
        """
        try:
            self._list_nothing()
        except (BaseError, FileNotFoundError) as error:
            raise self._failed(what, error) from None

    def _list_nothing(self) -> None:
        for _ in obstore.list(self.store, NOWHERE):
            return

    def _failed(self, what: str, error: Exception) -> StorageError:
        logger.warning("the storage could not %s: %s", what, self._tellable(error))
        return StorageError(f"The storage could not {what} it ({type(error).__name__}).")

    def check(self) -> None:
        """Ask the bucket once whether it is there and lets us in.

        Raises:
            StorageSettingsError: It is not, or it does not.
            StorageError: It does not say.
        """
        try:
            self._list_nothing()
        except (BaseError, FileNotFoundError) as error:
            if AT_FAULT.search(str(error)):
                raise self._at_fault("are refused by the bucket", error) from None
            raise StorageError(self._tellable(error).partition("\n")[0]) from None

    def sign(self, key: str, lasting: timedelta) -> str | None:
        """A link to an object; None where the credentials can't sign one."""
        try:
            return obstore.sign(self.store, "GET", key, lasting)
        except BaseError as error:
            logger.warning("the storage cannot sign: %s", self._tellable(error))
            return None

    def _at_fault(self, how: str, error: Exception) -> StorageSettingsError:
        reason = self._tellable(error).partition("\n")[0].rstrip(".")
        return StorageSettingsError(
            f"PST_STORAGE_URL and PST_STORAGE_OPTIONS {how}: {reason}. {REMEDY}"
        )

    def _tellable(self, error: Exception) -> str:
        text = str(error)
        for secret in sorted(self._secrets, key=len, reverse=True):
            if len(secret) > 3:  # noqa: PLR2004 # "true" and the like hide nothing
                text = text.replace(secret, REDACTED)
        return text.partition("\n\nDebug source:")[0][:MOST_SAID]
