"""What the fan-out benchmark measures with: servers as processes, and one client that holds thousands of sockets."""

import http.client
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench.fanout_servers import EVENT_BYTES, event, text_of
from tests.bench.peer import Peer

FRAME_BYTES = EVENT_BYTES + 4
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
LIMIT_SECONDS = 120
UPGRADE = (
    b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Server(Peer):
    """A server of fanout_servers."""

    def __init__(self, way: str):
        super().__init__("tests.bench.fanout_servers", way)

    def publish(self, count: int) -> None:
        """That many events at once."""
        self._popen.stdin.write(b"%d\n" % count)
        self._popen.stdin.flush()

    def memory(self, field: str = "VmRSS") -> int:
        """Bytes; VmHWM is the most there ever were."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return 1024 * int(status.split(f"{field}:")[1].split()[0])


CONFIGURATION = """
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 16000; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /publish {{ nchan_publisher; nchan_channel_id bench; }}
        location / {{
            nchan_subscriber websocket; nchan_channel_id bench; nchan_subscriber_first_message newest;
            nchan_websocket_ping_interval 0;
        }}
    }}
}}
"""


class Nchan(Server):
    """nginx with one worker and nchan; each event is a POST over one connection that is kept."""

    def __init__(self, _: str):  # pylint: disable=super-init-not-called; another process altogether
        self._folder = Path(tempfile.mkdtemp(prefix="nchan-"))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        configuration = self._folder / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(module=NCHAN, folder=self._folder, port=self.port), "ascii")
        self._popen = subprocess.Popen(["nginx", "-p", self._folder, "-c", configuration])  # pylint: disable=R1732
        self.pid = self._worker()
        self._publisher = http.client.HTTPConnection("127.0.0.1", self.port)

    def _worker(self) -> int:
        children = Path(f"/proc/{self._popen.pid}/task/{self._popen.pid}/children")
        deadline = time.monotonic() + 10
        while not (found := children.read_text(encoding="ascii").split()):
            assert time.monotonic() < deadline, "nginx did not start"
            time.sleep(0.05)
        time.sleep(0.3)
        return int(found[0])

    def publish(self, count: int) -> None:
        for _ in range(count):
            self._publisher.request("POST", "/publish", text_of(event()))
            self._publisher.getresponse().read()

    def stop(self) -> None:
        self._publisher.close()
        self._popen.terminate()
        self._popen.wait()
        shutil.rmtree(self._folder)


class Crowd:
    """So many upgraded sockets, read in one loop. Frames are counted by their bytes: all are of one length."""

    def __init__(self, port: int, size: int):
        self._selector = selectors.EpollSelector()
        self._buffer = bytearray(1 << 20)
        self._sockets = []
        self._received = [0] * size
        self._awaited = 0
        for first in range(0, size, 100):
            opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(min(100, size - first))]
            for one in opened:
                one.sendall(UPGRADE)
            for one in opened:
                _read_head(one)
                one.setblocking(False)
                self._selector.register(one, selectors.EVENT_READ, len(self._sockets))
                self._sockets.append(one)

    def __len__(self) -> int:
        return len(self._sockets)

    def receive(self, count: int, since: float) -> list[float]:
        """Wait until each socket has so many events more; for each the seconds from `since` on."""
        self._awaited += count * FRAME_BYTES
        seconds: list[float] = []
        while len(seconds) < len(self._sockets):
            ready = self._selector.select(LIMIT_SECONDS)
            assert ready, f"{len(self._sockets) - len(seconds)} sockets lost something"
            for key, _ in ready:
                before = self._received[key.data]
                got = key.fileobj.recv_into(self._buffer)
                assert got, "a socket was closed"
                self._received[key.data] = before + got
                if before < self._awaited <= before + got:
                    seconds.append(time.monotonic() - since)
        assert set(self._received) == {self._awaited}, "somebody got too much"
        return seconds

    def close(self) -> None:
        """Cut all of them."""
        for one in self._sockets:
            one.close()
        self._selector.close()


def _read_head(one: socket.socket) -> None:
    one.settimeout(LIMIT_SECONDS)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += one.recv(1)
    assert b" 101 " in head, head


def stalled(port: int, count: int) -> list[socket.socket]:
    """Sockets that are upgraded and never read."""
    found = []
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(UPGRADE)
        _read_head(one)
        found.append(one)
    return found
