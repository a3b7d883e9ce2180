"""HTTP of the catalog: what can be compressed here, and how."""

from fastapi import APIRouter, Request

from app.catalog import service
from app.catalog.schemas import Methods, Models
from app.problems import ProblemBody
from app.security import ProjectId

router = APIRouter(tags=["catalog"], responses={"4XX": {"model": ProblemBody}})


@router.get("/models")
async def list_models(request: Request, _: ProjectId) -> Models:
    """The models that this installation has, and the architectures that it knows by name."""
    return service.models(request.app.state.settings)


@router.get("/methods")
async def list_methods(_: ProjectId) -> Methods:
    """Methods, presets, tasks and bounds: all that a spec may ask for."""
    return service.methods()
