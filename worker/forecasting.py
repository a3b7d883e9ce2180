"""The process that works out one forecast: it reads models' configurations and users' data.

It has no credentials and no network; it reads one task file and writes one line to one pipe.
"""

import json
import logging
import os
import sys
import threading
from pathlib import Path

import transformers

from pst_core.estimate.forecast import forecast
from pst_core.forecast import Forecast
from pst_core.prepare import Sources
from pst_core.references import DataSource
from pst_core.spec import CompressionSpec
from worker.failures import describe
from worker.lifeline import die_with_supervisor

logger = logging.getLogger(__name__)


def main(task_file: str) -> int:
    logging.basicConfig(level=logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    threading.Thread(target=die_with_supervisor, daemon=True).start()
    task = json.loads(Path(task_file).read_bytes())
    try:
        told, status = _run(task).model_dump_json(), 0
    except Exception as error:
        logger.exception("there is no forecast")
        told, status = describe(error, "The estimate").model_dump_json(), 1
    with os.fdopen(task["events"], "w", encoding="utf-8") as pipe:
        pipe.write(told + "\n")
    return status


def _run(task: dict[str, str | list[str] | None]) -> Forecast:
    where = task["where"]
    sources = Sources(
        model=Path(str(task["model"])),
        # Nothing is read where there is none.
        dataset=DataSource(
            path=Path(str(task["dataset"])), where=(where[0], where[1]) if where else None
        ),
    )
    unread = task["unread"]
    return forecast(
        CompressionSpec.model_validate(task["spec"]),
        sources,
        unread=str(unread) if unread else None,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
