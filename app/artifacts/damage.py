"""What a client is told where stored bytes are lost or other ones; the log has the rest."""

import logging

from app.artifacts.parts import Part
from app.problems import Problem

logger = logging.getLogger(__name__)


def gone(part: Part) -> Problem:
    logger.error("%s is not in the storage", part.storage_key)
    return Problem(
        410,
        "checkpoint_gone",
        "The checkpoint is no longer in the storage.",
        remedy="Post the job again.",
    )


def corrupt(part: Part, reason: str) -> Problem:
    logger.error("%s is not what was published: %s", part.storage_key, reason)
    return Problem(
        502,
        "checkpoint_corrupt",
        "What is in the storage is no longer what the job published.",
        remedy="Tell who runs this service; or post the job again.",
    )
