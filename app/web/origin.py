"""Whether a form was sent by the page itself: a browser says so, and nobody else's script can."""

from urllib.parse import urlsplit

from fastapi import Request

from app.db import READS
from app.problems import Problem


async def check(request: Request) -> None:
    """Refuse a form from elsewhere.

    ``Sec-Fetch-Site`` where the browser sends it, else ``Origin``; one of them must be there. The
    cookie is ``SameSite=Strict`` besides: each of the three would do.

    Raises:
        Problem: 403.
    """
    if request.method in READS:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    # Another scheme may stand before a proxy that ends TLS; the host is what the browser asked.
    is_here = origin is not None and urlsplit(origin).netloc == request.headers.get("host")
    if site == "same-origin" or (site is None and is_here):
        return
    raise Problem(
        403,
        "cross_site",
        "The form was not sent by this page.",
        remedy="Open the page and send the form from there; programs use the API.",
    )
