"""The shapes a model must answer in; anything else is repaired once and then an abstention."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)
Share = Annotated[float, Field(ge=0, le=1)]


class Opinion(BaseModel):
    """A vote, an argument or a ruling: how likely a rise is, how sure the speaker is, and why."""

    model_config = _STRICT
    probability: Share
    confidence: Share
    reason: Annotated[str, Field(max_length=400)]


class NumberedOpinion(Opinion):
    """One opinion of a sheet, with the number of the item it is about."""

    id: Annotated[int, Field(ge=1)]


class Sheet(BaseModel):
    """Opinions about several items, from one call."""

    model_config = _STRICT
    opinions: Annotated[list[NumberedOpinion], Field(max_length=100)]
