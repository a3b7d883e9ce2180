"""What schemathesis cannot know: which references lead somewhere, and what it must not end."""

from typing import Any

import schemathesis
from schemathesis import Case, HookContext

from app.examples import SMALLEST

# What a flag in a query may be set by.
YES = ("1", "on", "t", "true", "y", "yes")
# Fields that fit any spec, whatever is drawn for them.
FREE = ("seed", "preset", "limits", "placement", "measure_benefit")


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, object]) -> None:
    """In sequences of calls, have jobs really made, and ask for files that they have."""
    if case.operation.path.startswith("/keys/{key_id}"):
        # The first it finds listed is its own: without that, all else would be refused.
        case.path_parameters["key_id"] = "00000000"
    if case.operation.path == "/estimates" and case.method.upper() == "POST":
        # Nobody works them out here, and its default is to wait for that.
        case.query.setdefault("wait", 0)
    wait = str(case.query.get("wait"))  # a number, or the text of one
    if wait.replace(".", "", 1).isdecimal() and float(wait) > 1:
        case.query["wait"] = 1  # as long as it takes to see that it waits
    if str(case.query.get("follow")).lower() in YES:
        # What a trainer prints next, it would wait for: longer than schemathesis does.
        case.query["follow"] = "false"
    meta = case.meta
    if meta is None or meta.generation.mode.is_negative or meta.phase.name.value != "stateful":
        return
    if case.operation.path == "/jobs" and isinstance(case.body, dict):
        case.body = SMALLEST | {name: case.body[name] for name in FREE if name in case.body}
        # A key drawn twice gets the answer of before, of a job that may be deleted by now.
        case.headers.pop("Idempotency-Key", None)
    if case.operation.path == "/sweeps" and isinstance(case.body, dict):
        spec = {name: SMALLEST[name] for name in ("model", "dataset")}
        case.body = {"spec": spec, "sparsities": [0.9]}
        case.headers.pop("Idempotency-Key", None)
    if case.operation.path.endswith("/artifacts/{format}/{name}"):
        case.path_parameters |= {"format": "packed", "name": "config.json"}
