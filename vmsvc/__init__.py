"""vmsvc: preemptible virtual machines for any OpenStack cloud."""

import sys
from pathlib import Path

#: The version number stands here and nowhere else; the build of the package reads this line.
__version__ = "0.1.0"


def _command() -> str:
    program = Path(sys.argv[0] if sys.argv else "").name
    if program == "vmsvc":
        return program
    python = Path(sys.executable)
    return (".venv/bin/python" if python.parts[-3:-1] == (".venv", "bin") else str(python)) + " -m vmsvc"


#: How a user types a command of this program: `vmsvc` where the package is installed, else the interpreter with the
#: module. For messages that name a command.
COMMAND = _command()
