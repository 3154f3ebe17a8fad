"""Log lines: one INFO line for each change of state, as text for people or JSON for machines; never a secret.

A line that was written for a client's request carries the request's id.
"""

import json
import logging
import re
import sys
import time

from vmsvc.cloud.port import REQUEST_ID

#: What looks like a credential in a line that was made elsewhere.
_SECRET = re.compile(r"(?i)((?:x-auth-token|x-subject-token|authorization|password|adminpass|secret|token)"
                     r"['\"]?\s*[:=]\s*)(['\"]?)(?:bearer\s+)?[^\s'\",}]+")
_URL_PASSWORD = re.compile(r"(\w+://[^:/\s@]*:)[^@/\s]+@")


def scrubbed(text: str) -> str:
    """The text with credentials replaced by ***."""
    return _URL_PASSWORD.sub(r"\1***@", _SECRET.sub(r"\1\2***", text))


class Text(logging.Formatter):
    """time level logger message [request]"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        line, request_id = scrubbed(super().format(record)), REQUEST_ID.get()
        return f"{line} [{request_id}]" if request_id and request_id not in line else line


class Json(Text):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {"time": f"{self.formatTime(record, self.datefmt)}.{int(record.msecs):03d}Z",
                  "level": record.levelname.lower(), "logger": record.name, "message": scrubbed(record.getMessage())}
        if request_id := REQUEST_ID.get():
            fields["request_id"] = request_id
        if record.exc_info:
            fields["exception"] = scrubbed(self.formatException(record.exc_info))
        return json.dumps(fields)


def configure(log_format: str) -> None:
    """Log to standard error in this format; libraries say only what is worth a warning."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if log_format == "json" else Text())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("vmsvc").setLevel(logging.INFO)
