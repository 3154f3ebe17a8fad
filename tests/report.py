"""What the suites that are run by hand have in common: settings from the environment, and tables of text."""

import os
from collections.abc import Container, Sequence


def setting(name: str, default: float) -> float:
    """A number from the environment."""
    return float(os.environ.get(name, default))


def table(rows: Sequence[Sequence[str]], left: Container[int] = (0,)) -> str:
    """Rows of equal length under one another, each column as wide as it must be; numbers to the right, the columns of
    `left` to the left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if number in left else text.rjust(width)
            for number, (text, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    )
