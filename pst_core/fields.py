"""What every document of ours is made of: models that refuse what they do not know, checked text.

Free of torch.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


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


# As JSON has them: true is no 1, "1" no number, 1 no true.
Int = Annotated[int, Field(strict=True)]
Float = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_storable)]
Fraction = Annotated[Float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[Float, Field(ge=0, le=1)]
Rate = Annotated[Float, Field(gt=0, le=1)]
