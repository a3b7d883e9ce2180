"""``python -m worker.profiler TASK``: read an uploaded file and say what is in it.

It has no credentials and little memory; whatever the file does to it, it does to nobody else.
"""

import json
import logging
import os
import sys
import threading
from pathlib import Path

from pst_core.dataset_profile import DatasetProfile, ProfileLimits
from pst_core.errors import InvalidDatasetError, PstError
from pst_core.events import FailureEvent
from pst_core.profiling import profile
from worker.failures import describe
from worker.lifeline import die_with_supervisor
from worker.profile_event import ProfileEvent, Told

logger = logging.getLogger(__name__)

MAX_PROFILE = 2**20  # bytes


def main(task_file: str) -> int:
    logging.basicConfig(level=logging.WARNING)
    threading.Thread(target=die_with_supervisor, daemon=True).start()
    task = json.loads(Path(task_file).read_bytes())
    told: Told
    try:
        found = profile(Path(task["path"]), task["kind"], ProfileLimits())
        told = ProfileEvent(profile=_short(found))
    except MemoryError:
        told = FailureEvent.of(_too_large())
    except Exception as error:
        if not isinstance(error, PstError):
            logger.exception("the profile failed")
        told = describe(error, "The check of the data")
    with os.fdopen(task["events"], "w", encoding="utf-8") as pipe:
        pipe.write(told.model_dump_json() + "\n")
    return 0


def _short(found: DatasetProfile) -> DatasetProfile:
    """A profile that fits into a line and a row: of very wide data, values and preview are left."""
    if len(found.model_dump_json()) <= MAX_PROFILE:
        return found
    columns = tuple(column.model_copy(update={"values": None}) for column in found.columns)
    return found.model_copy(update={"columns": columns, "preview": ()})


def _too_large() -> PstError:
    return InvalidDatasetError(
        "Reading it takes more memory than a check may use.",
        remedy="Shorten its longest rows, or give Parquet smaller row groups.",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
