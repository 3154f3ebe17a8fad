"""WebSocket frames (RFC 6455): the frame of an event, and Tornado's protocol with two things more that a server needs.

An event's frame is the same bytes for every socket: a server masks nothing, and compression is not negotiated. So the
hub frames each event once, whoever gets it.
"""

import asyncio
import struct
from typing import Any, Protocol

from tornado.websocket import WebSocketProtocol, WebSocketProtocol13

from vmsvc.web.channel import close_codes
from vmsvc.web.channel.socket_writer import SocketWriter

_TEXT = 0x81  # the whole message in one frame, text


def text_frame(text: bytes) -> bytes:
    """A UTF-8 text as one frame."""
    length = len(text)
    if length < 126:
        return struct.pack("!BB", _TEXT, length) + text
    if length < 65536:
        return struct.pack("!BBH", _TEXT, 126, length) + text
    return struct.pack("!BBQ", _TEXT, 127, length) + text


class Channel(Protocol):
    """What `ServerProtocol` needs of a socket's handler."""

    @property
    def writer(self) -> SocketWriter | None:
        """None until there is one."""

    def close_with(self, how: close_codes.CloseCode) -> None:
        """Close the socket from the service's side."""


class ServerProtocol(WebSocketProtocol13):
    """Tornado's protocol for a `Channel`.

    The server accepts masked frames alone. RFC 6455, 5.1: a client masks each of its frames, and a server closes the
    connection at one that is not masked. A script in a browser then cannot write bytes of its choice to the wire, which
    a proxy on the way might take for HTTP. Tornado has one class for both ends and accepts either.

    The `writer` learns of each frame that Tornado writes itself: pings, pongs, the close.
    """

    def __init__(self, protocol: WebSocketProtocol13, channel: Channel):
        super().__init__(protocol.handler, False, protocol.params)
        self._channel = channel

    @classmethod
    def instead_of(cls, protocol: WebSocketProtocol | None, channel: Channel) -> WebSocketProtocol | None:
        """This protocol for the same handler, which is the `channel`; None, for a version that Tornado does not
        support, stays None."""
        return cls(protocol, channel) if isinstance(protocol, WebSocketProtocol13) else protocol

    async def _receive_frame(self) -> None:
        """Read one frame. Tornado notes the mask of each frame that has one, and reads on until the client is gone."""
        self._frame_mask = None
        await super()._receive_frame()
        if self._frame_mask is None and not self.client_terminated:
            self.client_terminated = True  # nothing more is read: the close goes out, and then the stream ends
            self._channel.close_with(close_codes.UNMASKED_FRAME)

    def _write_frame(self, *args: Any, **kwargs: Any) -> asyncio.Future[None]:
        written = super()._write_frame(*args, **kwargs)
        if self._channel.writer is not None:
            self._channel.writer.wait_for_stream()
        return written
