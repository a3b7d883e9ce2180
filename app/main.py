"""The API put together. Routes are in their nouns' routers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import async_sessionmaker

from app import health, problems, queue
from app.artifacts.contents import Contents
from app.artifacts.router import router as artifacts_router
from app.db import async_engine
from app.events.router import router as events_router
from app.hub import errors as hub_errors
from app.hub.router import router as hub_router
from app.jobs.report_router import router as report_router
from app.jobs.router import router as jobs_router
from app.metrics.router import router as metrics_router
from app.middleware import BodyLimit, RequestId
from app.settings import Settings
from app.storage import LocalStorage
from app.streams.feeds import Feeds

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
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(
        title="pst-service",
        description=DESCRIPTION,
        version=version("pst-service"),
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.engine = engine
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    app.state.feeds = Feeds(app.state.sessions, settings)
    app.state.celery = queue.sender(settings.broker_url)
    app.state.storage = LocalStorage(settings.storage_dir)
    app.state.contents = Contents()
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(RequestId)
    problems.install(app)
    nouns = (jobs_router, report_router, events_router, metrics_router, artifacts_router)
    for router in (health.router, *nouns):
        app.include_router(router)
    app.mount("/hf", _hub(app))
    return app


def _hub(app: FastAPI) -> FastAPI:
    """Another protocol, with errors of its own; it has documentation enough elsewhere."""
    hub = FastAPI(openapi_url=None)
    hub.state = app.state
    hub_errors.install(hub)
    hub.include_router(hub_router)
    return hub
