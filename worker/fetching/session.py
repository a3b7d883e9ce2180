"""The HTTP client that huggingface_hub uses here: it waits for nobody for ever."""

from functools import partial

import httpx2
from huggingface_hub import set_client_factory

TIMEOUT = 30.0  # seconds, of each wait and not of the whole
MAX_REDIRECTS = 5


def use(endpoint: str, *, timeout: float = TIMEOUT) -> None:
    """Have all requests of this process made by a client of ours.

    Args:
        endpoint: The hub's address; one that is reached by TLS may not send us where there is none.
        timeout: In seconds.
    """
    set_client_factory(partial(_client, secure=endpoint.startswith("https:"), timeout=timeout))


def _client(*, secure: bool, timeout: float) -> httpx2.Client:
    def prepare(request: httpx2.Request) -> None:
        # huggingface_hub asks for no timeout, request by request: the client's own has no effect.
        request.extensions["timeout"] = httpx2.Timeout(timeout).as_dict()
        if secure and request.url.scheme != "https":
            raise httpx2.UnsupportedProtocol("redirected from https to http", request=request)

    return httpx2.Client(
        event_hooks={"request": [prepare]}, follow_redirects=True, max_redirects=MAX_REDIRECTS
    )
