"""Pages of lists: `limit` and `marker`, and the link to the next page, for all services that have them."""

from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from vmsvc.simulator.errors import bad_request

T = TypeVar("T")


def page(
    items: Sequence[T],
    query: dict[str, str],
    key: Callable[[T], str],
    most: int = 1000,
    unknown: Callable[[str], str] = "marker [{}] not found".format,
) -> tuple[Sequence[T], bool]:
    """The items after the marker, at most `limit` (or `most`) of them, and whether the page is full: then it links to a
    next one, even if there is none. `key` is what a marker names. Raises ApiError 400 for an unknown marker, with the
    text that `unknown` makes."""
    if query.get("marker"):
        keys = [key(item) for item in items]
        if query["marker"] not in keys:
            raise bad_request(unknown(query["marker"]))
        items = items[keys.index(query["marker"]) + 1 :]
    limit = min(int(query["limit"]) if query.get("limit") else most, most)
    shown = items[:limit]
    return shown, bool(shown) and len(shown) == limit


def next_page(path: str, query: dict[str, str], last: str) -> str:
    """The address of the page after the item `last`."""
    return f"{path}?{urlencode(sorted({**query, 'marker': last}.items()))}"
