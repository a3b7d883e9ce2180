"""Whether the process lives and whether it can serve. Needs no key and tells no secrets."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from app import queue

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    status: Literal["ready", "degraded", "unavailable"]
    database: bool
    broker: bool
    """False costs latency: workers then find jobs by asking the database."""


@router.get("/healthz")
async def healthz() -> Health:
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(request: Request, response: Response) -> Readiness:
    database = await _database_answers(request)
    broker = await run_in_threadpool(queue.ping, request.app.state.celery)
    if not database:
        response.status_code = 503
        return Readiness(status="unavailable", database=database, broker=broker)
    return Readiness(status="ready" if broker else "degraded", database=database, broker=broker)


async def _database_answers(request: Request) -> bool:
    try:
        async with request.app.state.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True
