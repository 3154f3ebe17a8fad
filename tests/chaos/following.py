"""Clients that follow the events under kill -9: `python -m tests.chaos.following`; FOLLOW_KILLS (20), CHAOS_SEED (1).

A service on a PostgreSQL and a simulated cloud of its own is killed and started again, while VMs are created and
deleted. In the end `vmsvc.client`, with blocking calls and with `await`, has given each event of the history once and
in order, and each create has made one VM.
"""

import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import server_with
from tests.report import setting
from tests.system import warm_start
from tests.system.following import follow_over_kills
from tests.system.processes import Process
from tests.system.timing import CLOUD_OF_MODE, QUICK
from vmsvc.simulator.process import start


async def run(folder: Path, environ: dict[str, str], kills: int, chance: random.Random) -> int:
    """1 when a promise was broken."""
    processes: list[Process] = []

    def start_service(settings: dict[str, str]) -> Process:
        processes.append(Process(settings, folder / f"log{len(processes)}"))
        return processes[-1]

    began = time.monotonic()
    try:
        found, events = await follow_over_kills(start_service, environ, kills, chance)
    finally:
        for process in processes:
            process.clean_up()
    print(f"{kills} kills, {events:,} events, {time.monotonic() - began:.0f} s")
    print("\n".join(found[:20]) or "each client heard each event once, in order, and each create made one VM")
    return bool(found)


def main() -> int:
    """1 when a promise was broken."""
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-following-"))
    cloud = start(folder / "cloud", hosts=1, **QUICK)
    try:
        with server_with("following") as maintenance:
            environ = {
                "OS_CLOUD": CLOUD_OF_MODE["operator"][0],
                "OS_CLIENT_CONFIG_FILE": str(cloud.clouds),
                "VMSVC_PORT": "0",
                "VMSVC_DATABASE_URL": maintenance.url.replace("/postgres?", "/following?"),
                "VMSVC_FLAVOR": "m1.tiny",
            }
            chance = random.Random(int(setting("CHAOS_SEED", 1)))
            return asyncio.run(run(folder, environ, int(setting("FOLLOW_KILLS", 20)), chance))
    finally:
        warm_start.end()
        os.kill(cloud.pid, signal.SIGTERM)
        os.waitpid(cloud.pid, 0)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
