"""HTTP of API keys: signatures, dependencies, one call each. The rules are in service.py."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from app.db import SessionDep
from app.openapi import problem_answers
from app.pages import CURSOR_PROBLEMS, Cursor, Limit, Page, decode_cursor, make_page
from app.projects import service
from app.projects.schemas import KeyCreate, KeyCreated, KeyOut, KeyRotate
from app.projects.service import NewKey
from app.projects.tables import Scope
from app.security import ProjectId, needs

router = APIRouter(
    prefix="/keys",
    tags=["keys"],
    dependencies=[needs(Scope.ADMIN)],
)

KeyId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$")]


@router.get(
    "",
    response_model=Page[KeyOut],
    responses=problem_answers(*CURSOR_PROBLEMS),
)
async def list_keys(
    session: SessionDep, project_id: ProjectId, limit: Limit = 50, cursor: Cursor = None
) -> object:
    """The project's keys, those that ended too; of none is the secret known any more."""
    after = decode_cursor(cursor, project_id) if cursor else ""
    keys = await session.run_sync(service.list_keys, project_id, after=after, limit=limit + 1)
    return make_page(list(keys), limit, [key.id for key in keys], project_id)


@router.post("", status_code=201, response_model=KeyCreated)
async def create_key(
    response: Response, session: SessionDep, project_id: ProjectId, body: KeyCreate
) -> dict[str, Any]:
    """Make a key, and show it, once."""
    lifetime = body.expires_in_seconds and timedelta(seconds=body.expires_in_seconds)
    new = await session.run_sync(
        service.add_key, project_id, name=body.name, scopes=body.scopes, lifetime=lifetime or None
    )
    return _shown(response, new)


@router.post(
    "/{key_id}/rotate",
    status_code=201,
    response_model=KeyCreated,
    responses=problem_answers("key_not_active"),
)
async def rotate_key(
    response: Response,
    session: SessionDep,
    project_id: ProjectId,
    key_id: KeyId,
    body: KeyRotate | None = None,
) -> dict[str, Any]:
    """Make a key's successor and show it, once; the key itself stays valid for a grace time."""
    grace = timedelta(seconds=(body or KeyRotate()).grace_seconds)
    new = await session.run_sync(service.rotate_key, project_id, key_id, grace=grace)
    return _shown(response, new)


@router.delete("/{key_id}", status_code=204)
async def revoke_key(session: SessionDep, project_id: ProjectId, key_id: KeyId) -> None:
    """End a key, everywhere within five seconds. It stays in the list."""
    await session.run_sync(service.revoke_key, project_id, key_id)


def _shown(response: Response, new: NewKey) -> dict[str, Any]:
    # What holds a secret is kept by nobody on the way.
    response.headers["Cache-Control"] = "no-store"
    return {**new.row._asdict(), "key": new.key}
