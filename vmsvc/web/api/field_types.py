"""Fields of bodies: JSON's own types alone, where marshmallow's take more, and texts that Nova takes."""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from marshmallow import ValidationError, fields, validate

#: Control characters are the part of Nova's rule for names that a pattern can say.
NO_CONTROLS = r"^[^\u0000-\u001f\u007f-\u009f]*$"
NO_NUL = r"^[^\u0000]*$"


def _check_printable(text: str) -> None:
    """Nova's rule for names: no control characters, no separators but spaces, no space at either end."""
    if text != text.strip():
        raise ValidationError("Must not begin or end with a space.")
    categories = {unicodedata.category(character) for character in text}
    if any(category[0] == "C" or category in ("Zl", "Zp") for category in categories):
        raise ValidationError("Must be printable.")


class TextField(fields.String):
    """A string of 1 to 255 printable characters."""

    def __init__(self, about: str = "", pattern: str = NO_CONTROLS):
        # No pattern of OpenAPI 3.0 can express categories of Unicode; the format's name stands for them.
        super().__init__(
            validate=[validate.Length(1, 255), _check_printable],
            metadata={"format": "printable", "pattern": pattern, **({"description": about} if about else {})},
        )


class PatternField(fields.String):
    """A string of so many characters, all of which a pattern describes. `wrong`: what is said of another one."""

    def __init__(self, least: int, most: int, pattern: str, wrong: str, about: str = ""):
        super().__init__(
            validate=[validate.Length(least, most), _matches(pattern, wrong)],
            metadata={"pattern": pattern, **({"description": about} if about else {})},
        )


def _matches(pattern: str, wrong: str) -> Callable[[str], None]:
    whole = re.compile(pattern.removeprefix("^").removesuffix("$"))

    def check(text: str) -> None:
        if not whole.fullmatch(text):
            raise ValidationError(wrong)

    return check


class StrictBoolean(fields.Boolean):
    """A JSON boolean; marshmallow's own field also takes 1 and "yes"."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("Must be true or false.")
        return value


class StrictInteger(fields.Integer):
    """A JSON integer; marshmallow's own field also takes booleans and fractions."""

    def _validated(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError("Must be an integer.")
        return value
