"""Where an endpoint may be: the grammar of its URL, and what the operator allows of it.

Which addresses its name stands for is asked anew before each attempt, by the worker.
"""

import re
from dataclasses import dataclass

from app.problems import Problem
from app.settings import Settings
from app.webhooks.addresses import is_forbidden

# Stricter than URLs are: what can be read in one way alone. No user, no password, no fragment, no
# backslash, nothing that is not ASCII.
URL_PATTERN = (
    r"^(https?)://([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(:[0-9]{1,5})?([/?][A-Za-z0-9/?:@!$&'()*+,;=._~%-]*)?$"
)
URL = re.compile(URL_PATTERN)
PORTS = {"https": 443, "http": 80}
MOST_PORT = 65535
# As a resolver may take it for a number: of 127.1, 2130706433 and 0x7f000001, too.
NUMERIC = re.compile(r"(.*\.)?(0[xX][0-9A-Fa-f]*|[0-9]+)")


@dataclass(frozen=True, slots=True)
class Target:
    scheme: str
    host: str
    """A name, or an address without brackets."""
    port: int
    path: str
    """With its query."""


def parse_target(url: str, settings: Settings) -> Target:
    """Where a URL leads.

    Raises:
        Problem: 422: it is none, or leads where the operator lets nothing be sent.
    """
    match = URL.fullmatch(url)
    if match is None:
        raise _refused("It is not a plain https URL.", "Give one without user and fragment.")
    scheme, host, _, port, path = match.groups()
    path = path or "/"
    target = Target(
        scheme=scheme,
        host=host.strip("[]").lower(),
        port=int(port[1:]) if port else PORTS[scheme],
        path=path if path.startswith("/") else f"/{path}",
    )
    if scheme == "http" and not settings.webhook_http:
        raise _refused("It is not https.", "Serve the endpoint over TLS.")
    if target.port not in settings.webhook_ports:
        allowed = ", ".join(map(str, settings.webhook_ports))
        raise _refused(f"Port {target.port} is not allowed.", f"Allowed are: {allowed}.")
    _check_host(target.host, settings)
    return target


def _check_host(host: str, settings: Settings) -> None:
    if ":" not in host and not NUMERIC.fullmatch(host):
        return
    try:
        forbidden = is_forbidden(host, settings.webhook_networks)
    except ValueError:
        raise _refused("Its host is not an address.", "Write it as four numbers.") from None
    if forbidden:
        raise _refused("Its address is not one that is sent to.", "Give a public one.")


def _refused(detail: str, remedy: str) -> Problem:
    return Problem(422, "invalid_webhook_url", detail, field="url", pointer="#/url", remedy=remedy)
