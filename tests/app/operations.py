"""What the API can be asked, read from its own description: a new route is found by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.routing import Mount

OPEN = ("/healthz", "/readyz", "/problems")
HUB = "/hf"


@dataclass(frozen=True, slots=True)
class Operation:
    method: str
    path: str
    """With its parameters in braces."""
    scopes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def at(self, parameters: Mapping[str, str]) -> str:
        """Its path; fails where a parameter has no value."""
        return self.path.format_map(parameters)


def operations(api: FastAPI) -> list[Operation]:
    """All that need a key, HEAD wherever there is GET, and those below ``/hf``."""
    (hub,) = (route.app for route in api.routes if isinstance(route, Mount) and route.path == HUB)
    assert isinstance(hub, FastAPI)
    found = [
        Operation(method.upper(), prefix + path, _scopes(operation))
        for prefix, described in (("", api.openapi()), (HUB, hub.openapi()))
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
        if not path.startswith(OPEN)
    ]
    # Some have it, and do not say so; the others refuse it.
    heads = {Operation("HEAD", each.path, each.scopes) for each in found if each.method == "GET"}
    return [*found, *sorted(heads - set(found), key=str)]


def _scopes(operation: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        scope
        for requirement in operation.get("security", ())
        for scopes in requirement.values()
        for scope in scopes
    )
