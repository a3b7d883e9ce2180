"""Webhook endpoints: made and shown once, tried, switched; and the log of what was sent."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.db import SessionDep
from app.pages import Cursor, decode_cursor, make_page
from app.projects.tables import Scope
from app.security import ProjectId, needs
from app.web.forms import FormDep, checked, text
from app.web.rendering import render
from app.webhooks import service
from app.webhooks.events import EventType
from app.webhooks.router import DeliveryId, EndpointId
from app.webhooks.schemas import DAY, DeliveryOut, EndpointCreate, EndpointOut, EndpointUpdate
from app.webhooks.tables import State

# As the API has it: an endpoint sees all jobs of the project, and outlives the key that made it.
router = APIRouter(prefix="/webhooks", dependencies=[needs(Scope.ADMIN)])

PAGE = 50


@router.get("")
async def list_endpoints(
    request: Request, session: SessionDep, project_id: ProjectId, cursor: Cursor = None
) -> Response:
    scope = f"{project_id} webhook endpoints"
    after = decode_cursor(cursor, scope) if cursor else ""
    found = await service.list_endpoints(session, project_id, after=after, limit=PAGE + 1)
    shown = make_page(list(found), PAGE, [endpoint.id for endpoint in found], scope)
    return render(request, "webhooks.html", endpoints=shown, events=[*EventType])


@router.post("")
async def create_endpoint(
    request: Request, session: SessionDep, project_id: ProjectId, form: FormDep
) -> Response:
    """Make an endpoint, and show its secret in this one answer."""
    asked = {
        "url": text(form, "url"),
        "events": form.get("events") or None,
        "description": text(form, "description") or None,
    }
    body = checked(
        EndpointCreate, asked, remedy="Give an https:// address that is reached from the internet."
    )
    endpoint, secret = await service.create(session, request.app.state.settings, project_id, body)
    shown = EndpointOut.model_validate(endpoint)
    return render(request, "webhook_secret.html", endpoint=shown, secret=secret)


@router.get("/{endpoint_id}")
async def get_endpoint(
    request: Request,
    session: SessionDep,
    project_id: ProjectId,
    endpoint_id: EndpointId,
    cursor: Cursor = None,
    state: Annotated[State | None, Query()] = None,
) -> Response:
    """One endpoint, and what is or was sent there."""
    scope = f"{project_id} {endpoint_id} {state}"
    before = decode_cursor(cursor, scope) if cursor else None
    endpoint = await service.get(session, project_id, endpoint_id)
    found = await service.list_deliveries(
        session, project_id, endpoint_id, state=state, before=before, limit=PAGE + 1
    )
    deliveries = [DeliveryOut.model_validate(delivery) for delivery in found]
    return render(
        request,
        "webhook.html",
        endpoint=EndpointOut.model_validate(endpoint),
        deliveries=make_page(deliveries, PAGE, [each.id for each in deliveries], scope),
        is_live=before is None and any(each.state == State.PENDING for each in deliveries),
    )


@router.post("/{endpoint_id}/rotate-secret")
async def rotate_secret(
    request: Request, session: SessionDep, project_id: ProjectId, endpoint_id: EndpointId
) -> Response:
    settings = request.app.state.settings
    endpoint, secret = await service.rotate_secret(
        session, settings, project_id, endpoint_id, overlap=timedelta(seconds=DAY)
    )
    shown = EndpointOut.model_validate(endpoint)
    return render(request, "webhook_secret.html", endpoint=shown, secret=secret)


@router.post("/{endpoint_id}/switch")
async def switch_endpoint(
    request: Request,
    session: SessionDep,
    project_id: ProjectId,
    endpoint_id: EndpointId,
    form: FormDep,
) -> Response:
    """On or off, whatever had switched it."""
    change = EndpointUpdate(enabled=text(form, "enabled") == "true")
    await service.change(session, request.app.state.settings, project_id, endpoint_id, change)
    return _back(endpoint_id)


@router.post("/{endpoint_id}/test")
async def ping_endpoint(
    session: SessionDep, project_id: ProjectId, endpoint_id: EndpointId
) -> Response:
    await service.ping(session, project_id, endpoint_id)
    return _back(endpoint_id)


@router.post("/{endpoint_id}/delete")
async def delete_endpoint(
    session: SessionDep, project_id: ProjectId, endpoint_id: EndpointId
) -> Response:
    await service.delete(session, project_id, endpoint_id)
    return RedirectResponse("/ui/webhooks", 303)


@router.post("/{endpoint_id}/deliveries/{delivery_id}/replay")
async def replay_delivery(
    session: SessionDep, project_id: ProjectId, endpoint_id: EndpointId, delivery_id: DeliveryId
) -> Response:
    await service.replay(session, project_id, endpoint_id, delivery_id)
    return _back(endpoint_id)


def _back(endpoint_id: str) -> Response:
    return RedirectResponse(f"/ui/webhooks/{endpoint_id}", 303)
