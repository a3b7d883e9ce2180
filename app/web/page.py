"""The page put together: an app of its own below ``/ui``, with the API's state, checks and rules.

Who asks is told by a cookie instead of a header; what may be asked, and what comes of it, is
decided where the API decides it.
"""

from pathlib import Path

from fastapi import Depends, FastAPI
from fastapi.responses import RedirectResponse

from app.security import authenticated
from app.web import (
    datasets,
    errors,
    files,
    jobs,
    keys,
    new_job,
    origin,
    sign_in,
    sweeps,
    webhooks,
)
from app.web.assets import Assets
from app.web.headers import SafeHeaders

ROOT = "/ui"
STATIC = Path(__file__).with_name("static")


def mount(app: FastAPI) -> None:
    """Put the page below ``/ui``, and lead there from ``/``."""
    app.mount(ROOT, _page(app))

    @app.get("/", include_in_schema=False)
    async def open_page() -> RedirectResponse:
        return RedirectResponse(f"{ROOT}/jobs", 303)


def _page(app: FastAPI) -> FastAPI:
    # Its description is for tests, which ask every route of it; nobody else is shown one.
    page = FastAPI(openapi_url=None, dependencies=[Depends(origin.check)])
    page.state = app.state
    # The same dependencies as the API's, scopes included, but for where the key comes from.
    page.dependency_overrides[authenticated] = sign_in.signed_in
    page.add_middleware(SafeHeaders)
    errors.install(page)
    for noun in (sign_in, new_job, jobs, files, sweeps, datasets, keys, webhooks):
        page.include_router(noun.router)
    page.mount("/static", Assets(directory=STATIC))
    return page
