"""HTTP of the catalog: what can be compressed here, and how."""

from fastapi import APIRouter, Request

from app.catalog import service
from app.catalog.schemas import Methods, Models
from app.projects.tables import Scope
from app.security import needs

router = APIRouter(tags=["catalog"], dependencies=[needs(Scope.JOBS_READ)])


@router.get("/models")
async def list_models(request: Request) -> Models:
    """The models that this installation has, and the architectures that it knows by name."""
    return service.models(request.app.state.settings)


@router.get("/methods")
async def list_methods() -> Methods:
    """Methods, presets, tasks and bounds: all that a spec may ask for."""
    return service.methods()
