"""The token file: which clients have access, by the hashes of their tokens.

A line is `NAME ROLE SHA256`; what follows a `#` at its start is a comment. The file is read again when it has changed,
so a token ends when its line is removed. A line that cannot be parsed is ignored; while others may write the file, at
the start or later, no token has access.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vmsvc import COMMAND
from vmsvc.domain.errors import VmsvcError
from vmsvc.domain.principal import MEMBER, ROLES, Principal

log = logging.getLogger(__name__)

#: So that a token is known for one wherever it turns up: by the scrubber of our log, by scanners for leaked secrets.
PREFIX = "vmsvc-"
#: Seconds between two checks whether the file has changed.
RELOAD_SECONDS = 1.0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_LINE = re.compile(r"([0-9A-Za-z][0-9A-Za-z._@+-]{0,63})\s+(reader|member)\s+([0-9a-f]{64})")


class BadTokenFile(VmsvcError):
    """The token file must not be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One valid line of the token file. `digest` is the SHA-256 of the token, in hex."""

    name: str
    role: str
    digest: str


def digest_of(token: str) -> str:
    """The SHA-256 of a token, in hex.

    A plain hash suffices, where passwords need a slow and salted one: a token of ours has 256 random bits, so there is
    nothing to guess and no table to look it up in.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def add(path: Path, name: str, role: str) -> str:
    """Make a token, append its hash to the file (made for its owner alone) and return the token: it is nowhere else.

    Raises BadTokenFile for a name that cannot be one, OSError when the file cannot be written.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {role} {digest_of(token)}"
    if not _LINE.fullmatch(line):
        raise BadTokenFile(
            f"a name is up to 64 letters, digits and . _ @ + -, and a role one of {', '.join(ROLES)}; "
            f"{name!a} {role!a} is not"
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"  # as some editors leave it
        os.write(descriptor, f"{chr(10) if torn else ''}{line}\n".encode())  # in one piece
    finally:
        os.close(descriptor)
    return token


def parse(text: str) -> tuple[tuple[Entry, ...], tuple[int, ...]]:
    """The entries, and the numbers of the lines that cannot be parsed."""
    entries, bad = [], []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found:
            entries.append(Entry(*found.groups()))
        else:
            bad.append(number)
    return tuple(entries), tuple(bad)


class TokenFile:
    """The tokens of the file as it was last read. What blocks runs in a thread."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic):
        self._path = path
        self._clock = clock
        self._entries: tuple[Entry, ...] = ()
        self._version: object = None  # inode, time and size of the file when it was read, or the error
        self._checked_at = -RELOAD_SECONDS
        self._lock = asyncio.Lock()

    def load(self) -> int:
        """Read the file at the start; returns the number of its tokens. Raises BadTokenFile for one that is not there,
        or that others may write or replace."""
        hint = f"{COMMAND} token new --name NAME --role member"
        try:
            _require_private(self._path)
        except OSError as error:
            raise BadTokenFile(
                f"the token file {self._path} cannot be read ({error.strerror}); make one: {hint}"
            ) from None
        self._reload()
        return len(self._entries)

    async def find(self, token: str) -> Principal | None:
        """The principal of this token; None for an unknown token."""
        return await self.find_by_digest(digest_of(token))

    async def find_by_digest(self, digest: str) -> Principal | None:
        """The principal of the token with this hash, if it is in the file now."""
        if self._is_due():
            async with self._lock:
                if self._is_due():
                    await asyncio.to_thread(self._reload)
        return _find(self._entries, digest)

    def _is_due(self) -> bool:
        return self._clock() - self._checked_at >= RELOAD_SECONDS

    def _reload(self) -> None:
        """Read the file if it has changed. While it is missing, or others may write it, no token has access."""
        try:
            status = _require_private(self._path)
            version: object = (status.st_ino, status.st_mtime_ns, status.st_size)
            if version != self._version:
                self._parse(self._path.read_text(encoding="utf-8"))
        except BadTokenFile as error:
            version = type(error)
            if version != self._version:
                log.error("%s: until then nobody can come in", error.message)
            self._entries = ()
        except (OSError, UnicodeDecodeError) as error:
            version = type(error)
            if version != self._version:
                log.error("the token file cannot be read (%s): nobody can come in", type(error).__name__)
            self._entries = ()
        self._version = version
        self._checked_at = self._clock()

    def _parse(self, text: str) -> None:
        self._entries, bad = parse(text)
        for number in bad:
            log.error("line %d of the token file is no `NAME ROLE SHA256`; it lets nobody in", number)
        log.info("the token file has %d tokens", len(self._entries))


def _require_private(path: Path) -> os.stat_result:
    """The file's status. Raises BadTokenFile when others may write it, or may put another file in its place; OSError
    when it is not there."""
    status = path.stat()
    if status.st_mode & _OTHERS_WRITE:
        raise BadTokenFile(f"others may write the token file {path}: chmod 600 {path}")
    # A link leads to the file that counts; both folders decide which one that is. In a folder with the sticky bit
    # (/tmp) nobody but the file's owner can replace it.
    for folder in dict.fromkeys((path.absolute().parent, path.resolve().parent)):
        mode = folder.stat().st_mode
        if mode & _OTHERS_WRITE and not mode & stat.S_ISVTX:
            raise BadTokenFile(f"others may write {folder}, the folder of the token file {path}: chmod go-w {folder}")
    return status


def _find(entries: Iterable[Entry], digest: str) -> Principal | None:
    """The entry with this digest, or None. It compares the digest with those of all entries, in constant time, so that
    the time of an answer tells nothing."""
    found = None
    for entry in entries:
        if hmac.compare_digest(entry.digest, digest):
            found = Principal(entry.name, entry.role == MEMBER, entry.digest)
    return found
