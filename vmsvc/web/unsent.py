"""Answers that have not left: how many bytes they hold, and what gives way when these are too many.

A peer that does not read keeps its answer here. The list is one piece of memory for all who get it; everything else is
its peer's own. When all of it together is more than the bound, whoever has kept us waiting longest is hung up on.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable

from tornado.iostream import IOStream


class Unsent:
    """At most `bound` bytes; a single answer may have more."""

    def __init__(self, bound: int):
        self._bound = bound
        self._of: OrderedDict[IOStream, tuple[Hashable, int]] = OrderedDict()   # first who has waited longest
        self._shared: Counter[Hashable] = Counter()
        self.size = 0
        self.hung_up = 0

    def __len__(self) -> int:
        return len(self._of)

    def follow(self, stream: IOStream, size: int, done: Callable[[], None], piece: Hashable | None = None) -> None:
        """An answer of so many bytes was given to the stream; `done()` is called when it has left, or its peer has.
        Answers of one `piece` are one piece of memory."""
        if not stream.writing():
            done()
            return
        left = stream.write(b"")        # done when all that was written before has left, and when the stream is closed
        self._take(stream, stream if piece is None else piece, size)

        def ended(_: object) -> None:
            left.exception()
            self._give_back(stream)
            done()
        left.add_done_callback(ended)
        while self.size > self._bound and len(self._shared) > 1:
            self._hang_up()

    def _take(self, stream: IOStream, piece: Hashable, size: int) -> None:
        self._give_back(stream)         # a stream has one answer at a time
        self._of[stream] = piece, size
        if not self._shared[piece]:
            self.size += size
        self._shared[piece] += 1

    def _give_back(self, stream: IOStream) -> None:
        piece, size = self._of.pop(stream, (None, 0))
        if piece is not None:
            self._shared[piece] -= 1
            if not self._shared[piece]:
                del self._shared[piece]
                self.size -= size

    def _hang_up(self) -> None:
        stream = next(iter(self._of))
        self._give_back(stream)
        self.hung_up += 1
        stream.close()
