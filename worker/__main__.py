"""``python -m worker jobs|maintenance|beat``: says what is wrong with its settings, or starts one.

What the three do is in start.py.
"""

import argparse
import sys

from app import logs, schema
from app.db import SchemaError
from app.settings import SettingsError, read_settings
from app.storage import StorageSettingsError, open_storage


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m worker")
    parser.add_argument("role", choices=["jobs", "maintenance", "beat"])
    parser.add_argument("--devices", default="cpu", help="for jobs: such as cpu or cuda:0,cuda:1")
    arguments = parser.parse_args()
    try:
        check(arguments.role)
    except (SchemaError, SettingsError, StorageSettingsError) as error:
        sys.exit(f"pst: {error}")
    # The tasks in it are made of the settings.
    from worker.start import start

    start(arguments.role, tuple(arguments.devices.split(",")))


def check(role: str) -> None:
    """See that it can work, and log as the settings say.

    Raises:
        SettingsError: Some cannot be, or are missing.
        SchemaError: The database is not of this release.
        StorageSettingsError: There is no such storage.
    """
    settings = read_settings()
    if settings.database_url is None or settings.broker_url is None:
        raise SettingsError(
            "PST_DATABASE_URL and PST_BROKER_URL: one is not set. Set both, or start it by "
            "`pst worker` or `pst beat`, which run embedded servers in their place."
        )
    logs.configure(settings)
    schema.check_at_start(settings.database_url)
    if role != "beat":
        # Told now: an attempt opens its own only once its job is claimed, and would lose it.
        open_storage(settings)


if __name__ == "__main__":
    main()
