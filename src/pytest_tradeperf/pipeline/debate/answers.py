"""The shapes a model must answer in; anything else is repaired once and then an abstention."""

from functools import lru_cache
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    create_model,
    field_validator,
)

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)
LONGEST_REASON = 200
Share = Annotated[float, Field(ge=0, le=1)]


def _reason(longest: int) -> Any:
    """Return the type of a reason; who talks longer is forgiven: the schema bounds words, not votes."""

    def cut(reason: Any) -> Any:
        return reason[:longest] if isinstance(reason, str) else reason

    return Annotated[str, Field(max_length=longest), BeforeValidator(cut)]


class Opinion(BaseModel):
    """A vote, an argument or a ruling: how likely a rise is, how sure the speaker is, and why."""

    model_config = _STRICT
    probability: Share
    confidence: Share
    reason: _reason(LONGEST_REASON)  # type: ignore[valid-type]  # a str, bounded


@lru_cache(maxsize=8)
def opinion_of(longest: int) -> type[Opinion]:
    """Return the shape of an opinion whose reason has at most ``longest`` characters."""
    if longest == LONGEST_REASON:
        return Opinion
    return create_model("Opinion", __base__=Opinion, reason=(_reason(longest), ...))


class Sheet(BaseModel):
    """Opinions about several items, from one call; made for a number of items by ``sheet_of``."""

    model_config = _STRICT
    shape: ClassVar[type[Opinion]] = Opinion

    def opinion(self, number: int) -> Opinion | None:
        """Return the opinion on item ``number`` (from 1), None where it is missing or broken."""
        found: Opinion | None = getattr(self, f"item_{number}")
        return found

    @classmethod
    def in_part(cls, text: str) -> Self | None:
        """Return the items that are whole in the beginning of an answer, None where there is none.

        Items do not depend on each other, so those that came in time count.
        """
        from pydantic_core import from_json

        begun = text[text.find("{") :] if "{" in text else ""
        try:
            # what was cut is left out, but a number that was cut looks whole: the last one is not believed
            return cls.model_validate(from_json(begun.rstrip("0123456789.eE+-"), allow_partial=True))
        except ValueError:  # ValidationError among them
            return None

    @field_validator("*", mode="wrap")
    @classmethod
    def _forgive_one(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        """Take a broken opinion as missing: its neighbours still count."""
        try:
            return handler(value)
        except ValidationError:
            return None

    @classmethod
    def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
        """Return the schema a model is held to: every item, though we forgive a missing one."""
        items = {name: {"$ref": "#/$defs/Opinion"} for name in cls.model_fields}
        return {
            "type": "object",
            "properties": items,
            "required": list(items),
            "additionalProperties": False,
            "$defs": {"Opinion": cls.shape.model_json_schema()},
        }


@lru_cache(maxsize=32)
def sheet_of(count: int, longest: int = LONGEST_REASON) -> type[Sheet]:
    """Return the shape of a sheet about ``count`` items, with reasons of at most ``longest`` characters."""
    shape = opinion_of(longest)
    fields: dict[str, Any] = {f"item_{n}": (shape | None, None) for n in range(1, count + 1)}
    sheet = create_model("Sheet", __base__=Sheet, **fields)
    sheet.shape = shape
    return sheet
