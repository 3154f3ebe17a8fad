"""`python -m vmsvc.sim --dir DIR [--port 0] [--hosts 4] …`: run the simulated cloud until SIGTERM."""

import argparse
import asyncio
import os
import sys
from dataclasses import fields
from pathlib import Path

from vmsvc.sim.lock import Lock
from vmsvc.sim.server import serve
from vmsvc.sim.settings import Settings


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(prog=".venv/bin/python -m vmsvc.sim", description="A simulated OpenStack.")
    options.add_argument("--dir", type=Path, required=True, help="folder of its state; kept across restarts")
    options.add_argument("--address", default="127.0.0.1", help="where it listens; anybody who reaches it may steer it")
    options.add_argument("--name", default="127.0.0.1", help="by which name clients reach it, for its clouds.yaml")
    options.add_argument("--port", type=int, default=0, help="0: that of the last run, else any free one")
    options.add_argument("--hosts", type=int, default=4, help="compute hosts of a new cloud")
    options.add_argument("--vcpus", type=int, default=4, help="vCPUs of each")
    options.add_argument("--ram-mb", type=int, default=8192, help="MiB of each")
    options.add_argument("--disk-gb", type=int, default=1000, help="GiB of each")
    for field in fields(Settings):
        options.add_argument("--" + field.name.replace("_", "-"), type=float, help=f"default {field.default}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 after SIGTERM, 3 when a sim of this folder runs already."""
    os.umask(0o077)  # The state holds passwords and tokens.
    options = vars(parser().parse_args(arguments))
    folder = options.pop("dir").resolve()
    lock = Lock(folder)
    if not lock.take():
        print(f"a simulated cloud runs already in {folder}", file=sys.stderr)
        return 3
    size = {name: options.pop(name) for name in ("hosts", "vcpus", "ram_mb", "disk_gb")}
    address, name, port = options.pop("address"), options.pop("name"), options.pop("port")
    settings = {key: value for key, value in options.items() if value is not None}
    asyncio.run(serve(folder, address, name, port, size, settings, lock))
    return 0


if __name__ == "__main__":
    sys.exit(main())
