"""What a stranger sends stands escaped in the text log, wherever it gets into a line."""

import asyncio
import io
import json
import logging

import pytest

from vmsvc import log

#: A new line and the beginning of a terminal's command, in Latin-1; ESC; a new line of ASCII.
RAW = (b"\x85", b"\x9b31m", b"\x1b[2J", b"\xc2\x85")
FORGED = "x\n2026-11-30T00:00:00.000Z ERROR   vmsvc: the disk is full"


@pytest.fixture(name="written")
def _written():
    """What the service's own handler writes of all loggers, at every level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log.TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


async def send(port, head):
    """Send a request byte by byte as it is; what came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.gen_test
@pytest.mark.parametrize("raw", RAW, ids=repr)
async def test_raw_bytes_of_a_stranger_are_escaped(http_server, http_port, raw, written, caplog):
    del http_server
    caplog.set_level(logging.DEBUG)
    close = b"Host: 127.0.0.1\r\nConnection: close\r\n"
    for head in (
        b"GET /" + raw + b"nowhere HTTP/1.1\r\n" + close + b"\r\n",
        b"POST /api/v1/" + raw + b" HTTP/1.1\r\nContent-Length: 0\r\n" + close + b"\r\n",
        b"GE" + raw + b"T / HTTP/1.1\r\n" + close + b"\r\n",
        b"GET /nowhere HTTP/1.1\r\nUser-Agent: " + raw + b"\r\nReferer: " + raw + b"\r\n" + close + b"\r\n",
        b"GET /nowhere HTTP/1.1\r\nHo" + raw + b"st: x\r\n" + close + b"\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: " + raw + b"\r\nConnection: close\r\n\r\n",
    ):
        await send(http_port, head)
    text = written.getvalue()
    assert text
    assert [letter for letter in text if letter != "\n" and not letter.isprintable()] == []
    assert all(line[:2] == "20" or line[:2] == "  " for line in text.splitlines())


@pytest.mark.gen_test
async def test_a_path_that_is_no_text_is_refused_and_has_its_line(http_server, http_port, written, caplog):
    del http_server
    caplog.set_level(logging.DEBUG)
    for method in ("GET", "DELETE", "PATCH"):
        head = (
            f"{method} /api/v1/vm/%ff%fe HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        assert (await send(http_port, head.encode())).startswith(b"HTTP/1.1 400 ")
        assert f"{method} /api/v1/vm/%ff%fe 400" in written.getvalue()
    assert "Traceback" not in written.getvalue()


def test_every_part_of_a_line_is_escaped(written):
    try:
        raise ValueError(FORGED + "\x9b31m")
    except ValueError:
        logging.getLogger("vmsvc.web").exception("%s failed: %s", "req\u202e", FORGED)
    first, *below = written.getvalue().rstrip("\n").split("\n")
    assert "req\\u202e failed: x\\n2026" in first
    assert below and all(line.startswith("  ") for line in below)
    assert "\x9b" not in written.getvalue()


def test_a_line_in_json_is_one_line_of_ascii():
    record = logging.LogRecord("vmsvc", logging.INFO, "", 0, FORGED + "\x85\x9b", (), None)
    line = log.JsonLogFormatter().format(record)
    assert line.isascii() and line.isprintable() and json.loads(line)["message"] == FORGED + "\x85\x9b"
