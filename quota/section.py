"""What every table of the settings is made of: how strict it is, and its whole numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    """A table of the settings: frozen, without unknown keys, silent about values in errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def not_bool(value: object) -> object:
    """Refuse true and false, which Python counts among the whole numbers."""
    if isinstance(value, bool):
        raise ValueError("must be a whole number")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


def between(low: int, high: int) -> AfterValidator:
    """Bound a whole number, both ends included, and name both in one message."""

    def check(number: int) -> int:
        if not low <= number <= high:
            raise ValueError(f"must be from {low} to {high}")
        return number

    return AfterValidator(check)


Whole = Annotated[int, BeforeValidator(not_bool)]
"""A whole number of the settings."""
