"""Signing in with a key, and out. The key lies in a cookie that the page's routes alone read.

It is checked as the API checks it, each time: by the same key ring, limits and scopes.
"""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.params import Security
from fastapi.responses import RedirectResponse
from fastapi.security import APIKeyCookie

from app.db import READS, SessionDep
from app.problems import Problem
from app.security import Caller, identify
from app.web.forms import FormDep, text
from app.web.rendering import render

router = APIRouter()

COOKIE = "pst_key"
PATH = "/ui"
HOME = f"{PATH}/jobs"
UNAUTHORIZED = 401

cookie = APIKeyCookie(name=COOKIE, auto_error=False)


class SignInNeededError(Exception):
    """Nobody is signed in; whoever looks is led to where one does."""


async def signed_in(
    request: Request, session: SessionDep, key: Annotated[str | None, Security(cookie)]
) -> Caller:
    """Whose key the cookie holds.

    Raises:
        Problem: 429, as for the API.
        SignInNeededError: The key is none, or no longer one.
    """
    known: Caller | None = getattr(request.state, "caller", None)
    if known is None:
        try:
            known = await identify(request, session, key)
        except Problem as problem:
            if problem.status_code == UNAUTHORIZED:
                raise SignInNeededError from problem
            raise
        request.state.caller = known
    return known


@router.get("/")
async def open_home() -> Response:
    return RedirectResponse(HOME, 303)


@router.get("/sign-in")
async def show_sign_in(request: Request, to: str = "") -> Response:
    return render(request, "sign_in.html", to=safe_path(to))


@router.post("/sign-in")
async def sign_in(request: Request, session: SessionDep, form: FormDep) -> Response:
    """Keep a key that is good in the browser; of one that is not nothing is told but that."""
    to, key = safe_path(text(form, "to")), text(form, "key")
    try:
        await identify(request, session, key)
    except Problem as problem:
        if problem.status_code != UNAUTHORIZED:
            raise
        return render(request, "sign_in.html", UNAUTHORIZED, to=to, error=problem.detail)
    answer = RedirectResponse(to, 303)
    answer.set_cookie(
        COOKIE, key, path=PATH, httponly=True, samesite="strict", secure=_is_secure(request)
    )
    return answer


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    answer = RedirectResponse(f"{PATH}/sign-in", 303)
    answer.delete_cookie(
        COOKIE, path=PATH, httponly=True, samesite="strict", secure=_is_secure(request)
    )
    return answer


def lead_to_sign_in(request: Request, error: Exception) -> Response:
    """Whoever looks comes back to what they wanted to see; a form that was sent is not repeated."""
    if not isinstance(error, SignInNeededError):
        raise error
    if request.method in READS:
        to = f"?to={request.url.path}" if request.url.path != HOME else ""
        answer: Response = RedirectResponse(f"{PATH}/sign-in{to}", 303)
    else:
        told = "You are no longer signed in: the key has ended. Nothing was changed."
        answer = render(request, "sign_in.html", UNAUTHORIZED, to=HOME, error=told)
    # A link from another site sends none, and must not take away the one that there is.
    if COOKIE in request.cookies:
        answer.delete_cookie(COOKIE, path=PATH)
    return answer


def safe_path(to: str) -> str:
    """A path of the page, whatever was asked for: never another host's."""
    is_ours = to.startswith(f"{PATH}/") and to.isascii() and to.isprintable()
    return to if is_ours and "\\" not in to and "//" not in to else HOME


def _is_secure(request: Request) -> bool:
    # Before a proxy that ends TLS the browser alone knows, and says so in Origin.
    origin = request.headers.get("origin", "")
    return request.url.scheme == "https" or origin.startswith("https://")
