"""The entry of the command `vmsvc` and of `python -m vmsvc`.

It imports everything else late: the package without its extra `service` answers `--version`, plays the demo, which is a
client, and names the extra when somebody asks for more.
"""

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from vmsvc import COMMAND, __version__


def run() -> NoReturn:
    """Do what the command line says, and end the process with the status of that."""
    try:
        status = _status(sys.argv[1:])
    except SystemExit as ended:  # argparse's, and of SIGTERM before anything runs
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        status = 130
    logging.shutdown()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    # Not sys.exit: it would wait for threads that hang in a call to the cloud, up to VMSVC_CLOUD_TIMEOUT.
    os._exit(status)  # pylint: disable=protected-access


def _status(arguments: Sequence[str]) -> int:
    if list(arguments) == ["--version"]:
        print(f"vmsvc {__version__}")
        return 0
    if list(arguments[:1]) == ["demo"]:  # a client, with flags of its own
        played: int = importlib.import_module("vmsvc.demo").main(arguments[1:], f"{COMMAND} demo")
        return played
    try:
        cli = importlib.import_module("vmsvc.cli")
        bootstrap = importlib.import_module("vmsvc.bootstrap")
    except ModuleNotFoundError as error:
        if (error.name or "vmsvc").partition(".")[0] == "vmsvc":
            raise
        print(
            f"vmsvc: the package {error.name} is missing. It comes with: pip install 'vmsvc[service]' "
            "(in a checkout: make run)",
            file=sys.stderr,
        )
        return 2
    status: int = cli.main(arguments, bootstrap.environment())
    return status


if __name__ == "__main__":
    run()
