"""The `Prefer` request header (RFC 7240): how long a client wants to wait."""

import re
from dataclasses import dataclass

#: One preference of a list, and the part of it before its parameters: a quoted string may hold either separator.
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_HEAD = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')


@dataclass(frozen=True, slots=True)
class Prefer:
    """The two preferences that we know. `wait` is whole seconds, None when not given."""

    respond_async: bool = False
    wait: int | None = None

    def timeout(self, longest: float) -> float:
        """How many seconds to wait for an outcome before the answer is 202."""
        if self.wait is not None:
            return min(self.wait, longest)
        return 0.0 if self.respond_async else longest

    def applied(self, went_async: bool) -> str:
        """The value of `Preference-Applied`: what was honoured; empty when nothing was asked."""
        parts = ["respond-async"] if self.respond_async and went_async else []
        if self.wait is not None:
            parts.append(f"wait={self.wait}")
        return ", ".join(parts)


def parse(header: str) -> Prefer:
    """Read the header's (joined) values. The first of a repeated preference counts; what cannot be understood is
    ignored, as the RFC wants it."""
    found: dict[str, str] = {}
    for preference in _PREFERENCE.findall(header):
        head = _HEAD.match(preference)
        name, _, value = (head[0] if head else "").partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = found.get("wait", "")
    return Prefer("respond-async" in found, int(wait) if re.fullmatch(r"[0-9]{1,9}", wait) else None)
