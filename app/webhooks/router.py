"""HTTP of webhook endpoints: signatures, dependencies, one call each. Rules are in service.py."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from app.db import SessionDep
from app.openapi import problem_answers
from app.pages import CURSOR_PROBLEMS, Cursor, Limit, Page, decode_cursor, make_page
from app.projects.tables import Scope
from app.security import ProjectId, needs
from app.webhooks import service
from app.webhooks.schemas import (
    DeliveryOut,
    EndpointCreate,
    EndpointCreated,
    EndpointOut,
    EndpointUpdate,
    SecretRotate,
)
from app.webhooks.tables import State, WebhookEndpoint

# Not jobs:write: an endpoint sees all jobs of the project, and outlives the key that made it.
router = APIRouter(
    prefix="/webhook-endpoints",
    tags=["webhooks"],
    dependencies=[needs(Scope.ADMIN)],
)

EndpointId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$")]
DeliveryId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$")]
StateFilter = Annotated[State | None, Query(description="Only those in this state.")]


@router.get("", response_model=Page[EndpointOut], responses=problem_answers(*CURSOR_PROBLEMS))
async def list_webhook_endpoints(
    session: SessionDep, project_id: ProjectId, limit: Limit = 50, cursor: Cursor = None
) -> object:
    """The project's endpoints; of none is the secret shown any more."""
    scope = f"{project_id} webhook endpoints"
    after = decode_cursor(cursor, scope) if cursor else ""
    found = await service.list_endpoints(session, project_id, after=after, limit=limit + 1)
    return make_page(list(found), limit, [endpoint.id for endpoint in found], scope)


@router.post(
    "",
    status_code=201,
    response_model=EndpointCreated,
    responses=problem_answers("invalid_webhook_url", "quota_exceeded"),
)
async def create_webhook_endpoint(
    request: Request,
    response: Response,
    session: SessionDep,
    project_id: ProjectId,
    body: EndpointCreate,
) -> dict[str, Any]:
    """Make an endpoint, and show its secret, once."""
    settings = request.app.state.settings
    endpoint, secret = await service.create(session, settings, project_id, body)
    return _shown(response, endpoint, secret)


@router.get("/{endpoint_id}", response_model=EndpointOut)
async def get_webhook_endpoint(
    session: SessionDep, project_id: ProjectId, endpoint_id: EndpointId
) -> object:
    return await service.get(session, project_id, endpoint_id)


@router.patch(
    "/{endpoint_id}",
    response_model=EndpointOut,
    responses=problem_answers("invalid_webhook_url"),
)
async def change_webhook_endpoint(
    request: Request,
    session: SessionDep,
    project_id: ProjectId,
    endpoint_id: EndpointId,
    body: EndpointUpdate,
) -> object:
    """Change what the body names; its secret stays."""
    settings = request.app.state.settings
    return await service.change(session, settings, project_id, endpoint_id, body)


@router.delete("/{endpoint_id}", status_code=204)
async def delete_webhook_endpoint(
    session: SessionDep, project_id: ProjectId, endpoint_id: EndpointId
) -> None:
    """Forget an endpoint at once, with its deliveries; what is on its way now may still arrive."""
    await service.delete(session, project_id, endpoint_id)


@router.post("/{endpoint_id}/rotate-secret", response_model=EndpointCreated)
async def rotate_webhook_secret(
    request: Request,
    response: Response,
    session: SessionDep,
    project_id: ProjectId,
    endpoint_id: EndpointId,
    body: SecretRotate | None = None,
) -> dict[str, Any]:
    """Make the next secret and show it, once; the one before signs as well for a while."""
    overlap = timedelta(seconds=(body or SecretRotate()).overlap_seconds)
    endpoint, secret = await service.rotate_secret(
        session, request.app.state.settings, project_id, endpoint_id, overlap=overlap
    )
    return _shown(response, endpoint, secret)


@router.post(
    "/{endpoint_id}/test",
    status_code=202,
    response_model=DeliveryOut,
    responses=problem_answers("endpoint_disabled"),
)
async def ping_webhook_endpoint(
    session: SessionDep, project_id: ProjectId, endpoint_id: EndpointId
) -> object:
    """Send a `webhook.ping`, whatever the endpoint's events are."""
    return await service.ping(session, project_id, endpoint_id)


@router.get(
    "/{endpoint_id}/deliveries",
    response_model=Page[DeliveryOut],
    responses=problem_answers(*CURSOR_PROBLEMS),
)
async def list_webhook_deliveries(
    session: SessionDep,
    project_id: ProjectId,
    endpoint_id: EndpointId,
    limit: Limit = 50,
    cursor: Cursor = None,
    state: StateFilter = None,
) -> object:
    """What is, or was, sent there, newest first, with what became of each attempt."""
    scope = f"{project_id} {endpoint_id} {state}"
    before = decode_cursor(cursor, scope) if cursor else None
    found = await service.list_deliveries(
        session, project_id, endpoint_id, state=state, before=before, limit=limit + 1
    )
    return make_page(list(found), limit, [delivery.id for delivery in found], scope)


@router.post(
    "/{endpoint_id}/deliveries/{delivery_id}/replay",
    status_code=202,
    response_model=DeliveryOut,
    responses=problem_answers("endpoint_disabled"),
)
async def replay_webhook_delivery(
    session: SessionDep, project_id: ProjectId, endpoint_id: EndpointId, delivery_id: DeliveryId
) -> object:
    """Send it again, under the same id; one that waits for its next attempt is sent now."""
    return await service.replay(session, project_id, endpoint_id, delivery_id)


def _shown(response: Response, endpoint: WebhookEndpoint, secret: str) -> dict[str, Any]:
    # What holds a secret is kept by nobody on the way.
    response.headers["Cache-Control"] = "no-store"
    return {**EndpointOut.model_validate(endpoint).model_dump(), "secret": secret}
