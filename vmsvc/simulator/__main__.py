"""`python -m vmsvc.simulator --dir DIR [--port 0] [--hosts 4] …`: run the simulated cloud until SIGTERM."""

import sys

from vmsvc.simulator.server import main

if __name__ == "__main__":
    sys.exit(main())
