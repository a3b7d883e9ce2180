"""What every document of ours is made of: models that refuse what they do not know, checked text.

Free of torch.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Strict(BaseModel):
    """Refuses unknown fields, NaN and infinities; does not change once made."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def is_storable(text: str) -> bool:
    """Whether UTF-8 and PostgreSQL take it: without NUL and halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("must not contain NUL or unpaired surrogates")
    return text


@dataclass(frozen=True, kw_only=True)
class Integer:
    """An integer as JSON has them: 1.0 is 1, and neither true nor "1" is. Bounds as `Field`'s."""

    ge: int
    le: int | None = None
    lt: int | None = None

    def __get_pydantic_core_schema__(
        self, _source: type[int], _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        # Inside the conversion, so that the JSON schema tells the bounds as such.
        bounded = core_schema.int_schema(strict=True, ge=self.ge, le=self.le, lt=self.lt)
        return core_schema.no_info_before_validator_function(_as_integer, bounded)


def _as_integer(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# As JSON has them: "1" is no number, 1 no true.
Float = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_storable)]
Fraction = Annotated[Float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[Float, Field(ge=0, le=1)]
Rate = Annotated[Float, Field(gt=0, le=1)]
