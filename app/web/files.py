"""What a job has published, by the API's own handlers: ranges, tags and hashes included."""

from fastapi import APIRouter

from app.artifacts.router import get_checkpoint, get_file
from app.projects.tables import Scope
from app.security import needs

router = APIRouter(prefix="/jobs/{job_id}", dependencies=[needs(Scope.JOBS_READ)])

router.add_api_route("/checkpoint", get_checkpoint, response_model=None)
router.add_api_route("/artifacts/{format}/{name}", get_file, response_model=None)
