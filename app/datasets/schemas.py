"""What the dataset routes take and give."""

from datetime import datetime
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from pst_core.dataset_profile import DatasetProfile, FileKind


class DatasetError(BaseModel):
    code: str
    message: str
    """What is wrong, with the line or row where there is one."""
    remedy: str = ""


class DatasetSummary(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    status: Literal["uploading", "validating", "ready", "invalid"] = Field(
        validation_alias=AliasChoices("state", "status")
    )
    format: FileKind
    gzip: bool
    """Whether the file is compressed."""
    size: int | None
    """Of the file as it was sent, in bytes."""
    sha256: str | None
    """Of the same."""
    error: DatasetError | None
    """Why it cannot be used, where it is invalid."""
    created_at: datetime
    checked_at: datetime | None


class DatasetDetail(DatasetSummary):
    profile: DatasetProfile | None
    """What is in it: known once it was checked."""
