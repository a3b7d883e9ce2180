"""What the artifact routes give."""

from pydantic import BaseModel, ConfigDict


class ArtifactFile(BaseModel):
    name: str
    size: int
    sha256: str


class ArtifactOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    """Of the archive; it unpacks into a folder of the same name without `.tar`."""
    format: str
    size: int
    sha256: str
    files: list[ArtifactFile]


class ArtifactList(BaseModel):
    data: list[ArtifactOut]
