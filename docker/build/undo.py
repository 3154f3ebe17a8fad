"""How to get back to what was, when a build fails halfway."""

import sys


class Undo:
    """Steps that take back what was done, carried out last first."""

    def __init__(self):
        self._steps = []

    def add(self, what, step):
        """`step` takes back what the caller does next; `what` names it if it fails."""
        self._steps.append((what, step))

    def run(self):
        """Take all of it back. A step that fails is told, and those before it are taken back all the same."""
        while self._steps:
            what, step = self._steps.pop()
            try:
                step()
            except Exception as error:  # pylint: disable=broad-except
                print(f"vmsvc: going back, this did not work: {what}: {error}", file=sys.stderr)
