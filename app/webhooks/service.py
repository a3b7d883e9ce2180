"""The rules of webhook endpoints as their owners meet them. What is sent is worker/deliveries.py's.

Which addresses may be sent to is in targets.py and addresses.py.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import new_id
from app.problems import Problem, not_found
from app.projects import quotas
from app.settings import Settings
from app.webhooks import queries, signing
from app.webhooks.events import PING
from app.webhooks.schemas import EndpointCreate, EndpointUpdate
from app.webhooks.tables import Disabled, State, WebhookDelivery, WebhookEndpoint
from app.webhooks.targets import parse_target


async def create(
    session: AsyncSession, settings: Settings, project_id: str, request: EndpointCreate
) -> tuple[WebhookEndpoint, str]:
    """Make an endpoint, and its secret.

    Raises:
        Problem: 422 where nothing may be sent to its URL, 429 where there are enough.
    """
    parse_target(request.url, settings)
    await _admit(session, settings, project_id)
    key = signing.installation_key(settings)
    endpoint_id = new_id("whe")
    row = {
        "id": endpoint_id,
        "project_id": project_id,
        "url": request.url,
        "events": _sorted(request.events),
        "description": request.description or "",
        "key_fingerprint": signing.fingerprint(key),
    }
    await session.execute(queries.add(row))
    made = await get(session, project_id, endpoint_id)
    return made, signing.secret_of(key, endpoint_id, made.secret_version)


async def list_endpoints(
    session: AsyncSession, project_id: str, *, after: str, limit: int
) -> Sequence[WebhookEndpoint]:
    return (await session.scalars(queries.page(project_id, after=after, limit=limit))).all()


async def get(session: AsyncSession, project_id: str, endpoint_id: str) -> WebhookEndpoint:
    """An endpoint of the project.

    Raises:
        Problem: 404.
    """
    return _found(await session.scalar(queries.one(project_id, endpoint_id)))


async def change(
    session: AsyncSession,
    settings: Settings,
    project_id: str,
    endpoint_id: str,
    request: EndpointUpdate,
) -> WebhookEndpoint:
    """Change what the request names.

    Raises:
        Problem: 404, or 422 where nothing may be sent to the new URL.
    """
    endpoint = _found(await session.scalar(queries.locked(project_id, endpoint_id)))
    values: dict[str, Any] = {}
    if request.url is not None:
        parse_target(request.url, settings)
        values |= {"url": request.url, **queries.UNTRIED, **queries.UNCLAIMED}
    if "events" in request.model_fields_set:
        values["events"] = _sorted(request.events)
    if "description" in request.model_fields_set:
        values["description"] = request.description or ""
    if request.enabled is True and not endpoint.enabled:
        values |= {"disabled_reason": None, **queries.UNTRIED}
    if request.enabled is False and endpoint.enabled:
        values["disabled_reason"] = Disabled.ASKED
        await session.execute(queries.give_up_pending(endpoint_id))
    if values:
        await session.execute(queries.change(project_id, endpoint_id, values))
    return await get(session, project_id, endpoint_id)


async def rotate_secret(
    session: AsyncSession,
    settings: Settings,
    project_id: str,
    endpoint_id: str,
    *,
    overlap: timedelta,
) -> tuple[WebhookEndpoint, str]:
    """Make an endpoint's next secret.

    Raises:
        Problem: 404.
    """
    key = signing.installation_key(settings)
    rotation = queries.rotate(
        project_id, endpoint_id, key_fingerprint=signing.fingerprint(key), overlap=overlap
    )
    await session.execute(rotation)
    endpoint = await get(session, project_id, endpoint_id)
    return endpoint, signing.secret_of(key, endpoint_id, endpoint.secret_version)


async def delete(session: AsyncSession, project_id: str, endpoint_id: str) -> None:
    """Forget an endpoint, and what was sent there.

    Raises:
        Problem: 404.
    """
    if await session.scalar(queries.delete(project_id, endpoint_id)) is None:
        raise not_found("webhook endpoint")


async def ping(session: AsyncSession, project_id: str, endpoint_id: str) -> WebhookDelivery:
    """Have something sent that tells of nothing, whatever the endpoint wants to be told of.

    Raises:
        Problem: 404, or 409 where it is switched off.
    """
    await _enabled(session, project_id, endpoint_id)
    delivery_id = new_id("msg")
    await session.execute(queries.add_ping(project_id, endpoint_id, delivery_id, PING))
    return await _delivery(session, project_id, endpoint_id, delivery_id)


async def list_deliveries(
    session: AsyncSession,
    project_id: str,
    endpoint_id: str,
    *,
    state: State | None,
    before: str | None,
    limit: int,
) -> Sequence[WebhookDelivery]:
    """What is, or was, sent to an endpoint, newest first.

    Raises:
        Problem: 404.
    """
    await get(session, project_id, endpoint_id)
    newest = queries.deliveries(project_id, endpoint_id, state=state, before=before, limit=limit)
    return (await session.scalars(newest)).all()


async def replay(
    session: AsyncSession, project_id: str, endpoint_id: str, delivery_id: str
) -> WebhookDelivery:
    """Have a delivery sent again, under the same id.

    Raises:
        Problem: 404, or 409 where the endpoint is switched off.
    """
    await _delivery(session, project_id, endpoint_id, delivery_id)
    await _enabled(session, project_id, endpoint_id)
    await session.execute(queries.replay(project_id, endpoint_id, delivery_id))
    return await _delivery(session, project_id, endpoint_id, delivery_id)


async def _admit(session: AsyncSession, settings: Settings, project_id: str) -> None:
    # Locks the project's quotas: what is counted stays true until the transaction ends.
    await session.execute(quotas.limits(), {"project_id": project_id})
    most = settings.max_webhook_endpoints
    if (await session.scalar(queries.count(project_id)) or 0) >= most:
        raise quotas.exceeded(
            f"webhook_endpoints: the project may have {most}, and has as many.",
            "Delete one, or change one.",
            raised_by="PST_MAX_WEBHOOK_ENDPOINTS",
        )


async def _enabled(session: AsyncSession, project_id: str, endpoint_id: str) -> None:
    endpoint = _found(await session.scalar(queries.locked(project_id, endpoint_id)))
    if not endpoint.enabled:
        raise Problem(
            409,
            "endpoint_disabled",
            f"The endpoint is switched off: {endpoint.disabled_reason}.",
            remedy="PATCH it with enabled: true first.",
        )


async def _delivery(
    session: AsyncSession, project_id: str, endpoint_id: str, delivery_id: str
) -> WebhookDelivery:
    # A deleted endpoint has none.
    await get(session, project_id, endpoint_id)
    found = await session.scalar(queries.delivery(project_id, endpoint_id, delivery_id))
    if found is None:
        raise not_found("webhook delivery")
    return found


def _found(endpoint: WebhookEndpoint | None) -> WebhookEndpoint:
    if endpoint is None:
        raise not_found("webhook endpoint")
    return endpoint


def _sorted(events: Sequence[str] | None) -> list[str] | None:
    return None if events is None else sorted(set(events))
