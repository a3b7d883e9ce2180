"""The project's keys: made and shown once, rotated, revoked."""

from datetime import timedelta

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import SessionDep
from app.pages import Cursor, decode_cursor, make_page
from app.projects import service
from app.projects.router import KeyId
from app.projects.schemas import GRACE, KeyCreate
from app.projects.service import NewKey
from app.projects.tables import Scope
from app.security import ProjectId, needs
from app.web.forms import FormDep, checked, text
from app.web.rendering import render

router = APIRouter(prefix="/keys", dependencies=[needs(Scope.ADMIN)])

PAGE = 50
DAY = 24 * 3600
MOST_DIGITS = 9  # of days: more are too many, and may be no number to Python


@router.get("")
async def list_keys(
    request: Request, session: SessionDep, project_id: ProjectId, cursor: Cursor = None
) -> Response:
    """The project's keys; of none is the secret known any more."""
    return await _list(request, session, project_id, cursor=cursor)


@router.post("")
async def create_key(
    request: Request, session: SessionDep, project_id: ProjectId, form: FormDep
) -> Response:
    """Make a key, and show it in this one answer."""
    days = text(form, "days")
    is_number = days.isdecimal() and len(days) <= MOST_DIGITS
    asked = checked(
        KeyCreate,
        {
            "name": text(form, "name"),
            "scopes": form.get("scopes", []),
            "expires_in_seconds": int(days) * DAY if is_number else days or None,
        },
        remedy="Give it a name and at least one scope; days are a whole number.",
    )
    seconds = asked.expires_in_seconds
    lifetime = None if seconds is None else timedelta(seconds=seconds)
    new = await session.run_sync(
        service.add_key, project_id, name=asked.name, scopes=asked.scopes, lifetime=lifetime
    )
    return await _list(request, session, project_id, new=new)


@router.post("/{key_id}/rotate")
async def rotate_key(
    request: Request, session: SessionDep, project_id: ProjectId, key_id: KeyId
) -> Response:
    """Make a key's successor; the key itself stays valid for a day."""
    new = await session.run_sync(service.rotate_key, project_id, key_id, grace=GRACE)
    return await _list(request, session, project_id, new=new)


@router.post("/{key_id}/revoke")
async def revoke_key(session: SessionDep, project_id: ProjectId, key_id: KeyId) -> Response:
    await session.run_sync(service.revoke_key, project_id, key_id)
    return RedirectResponse("/ui/keys", 303)


async def _list(
    request: Request,
    session: AsyncSession,
    project_id: str,
    *,
    cursor: str | None = None,
    new: NewKey | None = None,
) -> Response:
    after = decode_cursor(cursor, project_id) if cursor else ""
    keys = await session.run_sync(service.list_keys, project_id, after=after, limit=PAGE + 1)
    shown = make_page(list(keys), PAGE, [key.id for key in keys], project_id)
    return render(request, "keys.html", keys=shown, new=new, scopes=[*Scope])
