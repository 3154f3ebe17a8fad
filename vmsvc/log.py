"""Log lines: one INFO line for each change of state, as text for people or JSON for machines; never a secret.

A line that was written for a client's request carries the request's id and who made it. What a stranger sent can stand
in any line (a path, a header, the name of a VM, the message of an exception), so whatever is not printable is escaped
here, for all of them: no stranger begins a line of his own or steers the terminal that shows the log.
"""

import copy
import logging
import re
import sys
import time
from types import TracebackType
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from vmsvc.cloud.port import REQUEST_ID
from vmsvc.service.trace import PRINCIPAL

#: What a line in JSON has of the `fields` of a record: of a response, and of a VM that changes its state.
FIELDS = ("method", "route", "status", "duration_ms", "vm", "state_from", "state_to")
#: What looks like a credential in a line that was made elsewhere.
_SECRET = re.compile(
    r"(?i)((?:x-auth-token|x-subject-token|authorization|password|adminpass|secret|token)"
    r"['\"]?\s*[:=]\s*)(['\"]?)(?:bearer\s+)?[^\s'\",}]+"
)
#: Our own tokens, Keystone's Fernet tokens and tickets, wherever they stand.
_TOKEN = re.compile(r"vmsvc-[0-9A-Za-z_-]{43}|\bgAAAA[0-9A-Za-z_=-]{40,}|(?<=ticket=)[0-9A-Za-z_-]+")
#: Where PostgreSQL shows what is in a row, or in a statement.
_ROW = re.compile(r"(?m)^(DETAIL|CONTEXT|LINE \d+):.*")
_URL_PASSWORD = re.compile(r"(\w+://[^:/\s@]*:)[^@/\s]+@")

#: What `sys.exc_info()` returns.
_Exception = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def scrubbed(text: str) -> str:
    """The text with credentials replaced by ***."""
    return _URL_PASSWORD.sub(r"\1***@", _SECRET.sub(r"\1\2***", _TOKEN.sub("***", _ROW.sub(r"\1: ***", text))))


def escaped(text: str) -> str:
    r"""The text on one line, with what is not printable as \x9b or \u2028: control characters of ASCII and of Latin-1
    (a terminal takes 0x9b for the beginning of a command, 0x85 for a new line), separators, marks that turn the
    direction of writing, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


class TextFormatter(logging.Formatter):
    """time level logger message [request]; the lines of an exception stand below it, indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # pylint: disable=invalid-name; logging's name
        """The first line."""
        return escaped(scrubbed(super().formatMessage(record)))

    def formatException(self, ei: _Exception) -> str:  # pylint: disable=invalid-name; as above
        """The lines below: none begins like the first line of a record."""
        return "\n".join(f"  {escaped(line)}" for line in scrubbed(super().formatException(ei)).split("\n"))

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_text:  # as another handler has formatted it
            record = copy.copy(record)
            record.exc_text = None
        line, request_id = scrubbed(super().format(record)), REQUEST_ID.get()
        if not request_id or request_id in line:  # the line of an answer has both already
            return line
        return f"{line} [{' '.join(filter(None, (request_id, PRINCIPAL.get())))}]"


class JsonLogFormatter(JsonFormatter):
    """One JSON object a line: time, level, logger, message, and where there is one request_id, principal, exception and
    each of FIELDS."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%S")

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Fill `log_data` with these fields alone: what else hangs on a record (`extra`, the place in the code) could
        hold a secret that nobody has scrubbed."""
        fields = getattr(record, "fields", {})
        log_data |= {
            "time": f"{self.formatTime(record, self.datefmt)}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrubbed(record.message),
            "request_id": REQUEST_ID.get(),
            "principal": PRINCIPAL.get(),
            "exception": scrubbed(message_dict["exc_info"]) if "exc_info" in message_dict else None,
            **{name: fields.get(name) for name in FIELDS},
        }

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """The fields that have a value."""
        return {name: value for name, value in log_data.items() if value or name == "message"}


def configure(log_format: str) -> None:
    """Log to standard error in this format; libraries say only what is worth a warning."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLogFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("vmsvc").setLevel(logging.INFO)
