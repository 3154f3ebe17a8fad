"""What system tests say about themselves: in which modes they run, and with which notice."""

import pytest

from tests.examples import examples

_MODES = ["operator", "tenant"]
#: The modes differ in what this test is about, so it runs in both.
BOTH = pytest.mark.parametrize("mode", _MODES)
#: What this test is about is the same code in both modes: one of them is enough, unless all examples are asked for.
EITHER = pytest.mark.parametrize("mode", _MODES[: examples(1, 2)])
TENANT = pytest.mark.parametrize("mode", ["tenant"])


def grace(seconds, **options):
    """The notice that the service gives in a test, and other options of it."""
    return pytest.mark.parametrize("options", [{"grace_seconds": seconds, **options}], ids=[f"grace{seconds}"])
