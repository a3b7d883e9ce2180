"""What a child says of an uploaded file: one line of JSON, which its parent does not trust."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from pst_core.dataset_profile import DatasetProfile
from pst_core.events import FailureEvent
from pst_core.fields import Strict


class ProfileEvent(Strict):
    type: Literal["profile"] = "profile"
    profile: DatasetProfile


Told = ProfileEvent | FailureEvent
TOLD: TypeAdapter[Told] = TypeAdapter(Annotated[Told, Field(discriminator="type")])
