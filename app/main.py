"""The API put together. Routes are in their nouns' routers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from fastapi import FastAPI
from starlette.datastructures import State

from app import api_pages, health, problem_pages, problems, queue
from app.artifacts.contents import Contents
from app.artifacts.router import router as artifacts_router
from app.catalog.router import router as catalog_router
from app.datasets.router import router as datasets_router
from app.db import Sessions, async_engine
from app.estimates.router import router as estimates_router
from app.events.router import router as events_router
from app.hub import errors as hub_errors
from app.hub.router import router as hub_router
from app.jobs.router import router as jobs_router
from app.jobs.watch import Watch
from app.keyring import Keyring
from app.metrics.router import router as metrics_router
from app.middleware import Bounds, Limits, RequestId
from app.openapi import Api
from app.projects.router import router as keys_router
from app.rates import Buckets, RateLimitHeaders
from app.settings import Settings
from app.storage import open_storage
from app.streams.feeds import Feeds
from app.sweeps.router import router as sweeps_router
from app.telemetry.api import api_registry
from app.telemetry.requests import Observe, RequestMetrics
from app.web import page
from app.webhooks.router import router as webhooks_router

DESCRIPTION = "Compresses transformer language models by parameter-efficient sparse training."


def create_app(settings: Settings) -> FastAPI:
    """The API of an installation.

    Args:
        settings: With both URLs set; starting embedded servers is the command line's.
    """
    if settings.database_url is None or settings.broker_url is None:
        raise ValueError("the API needs PST_DATABASE_URL and PST_BROKER_URL; `pst api` sets them")
    engine = async_engine(settings.database_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        writing = asyncio.create_task(app.state.keyring.keep_writing(app.state.sessions.writing))
        yield
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
        await app.state.waker.stop()
        await engine.dispose()

    app = Api(
        title="pst-service",
        description=DESCRIPTION,
        version=version("pst-service"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.engine = engine
    app.state.celery = queue.sender(settings.broker_url)
    app.state.waker = queue.Waker(app.state.celery)
    _equip(app.state, settings, Sessions(engine))
    uploads = dict.fromkeys(("/datasets", f"{page.ROOT}/datasets"), _upload(settings))
    app.add_middleware(Limits, bounds=_bounds(settings), uploads=uploads)
    app.add_middleware(RateLimitHeaders)
    app.add_middleware(RequestId)
    app.state.registry = api_registry(settings, app.state)
    app.add_middleware(Observe, metrics=RequestMetrics(app.state.registry))
    problems.install(app)
    for router in (
        health.router,
        problem_pages.router,
        jobs_router,
        estimates_router,
        events_router,
        metrics_router,
        artifacts_router,
        sweeps_router,
        datasets_router,
        catalog_router,
        keys_router,
        webhooks_router,
    ):
        app.include_router(router)
    api_pages.mount(app)
    app.mount("/hf", _hub(app))
    page.mount(app)
    return app


def _bounds(settings: Settings) -> Bounds:
    return Bounds(max_bytes=settings.max_body_bytes, seconds=settings.body_seconds)


def _upload(settings: Settings) -> Bounds:
    return Bounds(
        max_bytes=settings.max_upload_bytes,
        seconds=settings.upload_seconds,
        least_rate=settings.upload_bytes_per_second,
        stall_seconds=settings.body_seconds,
        remedy="Send less, compressed perhaps, or have the operator raise PST_MAX_UPLOAD_BYTES.",
    )


def _equip(state: State, settings: Settings, sessions: Sessions) -> None:
    """What the routes work with."""
    state.settings = settings
    state.sessions = sessions
    state.keyring = Keyring()
    state.requests = Buckets(
        "key", burst=settings.key_requests_burst, per_second=settings.key_requests_per_second
    )
    state.bad_keys = Buckets(
        "address", burst=settings.bad_keys_burst, per_second=settings.bad_keys_per_second
    )
    state.watch = Watch(sessions.reading)
    state.feeds = Feeds(sessions.reading, settings)
    state.storage = open_storage(settings)
    state.contents = Contents()


def _hub(app: FastAPI) -> FastAPI:
    """Another protocol, with errors of its own; it has documentation enough elsewhere."""
    hub = FastAPI(openapi_url=None)
    hub.state = app.state
    hub_errors.install(hub)
    hub.include_router(hub_router)
    return hub
