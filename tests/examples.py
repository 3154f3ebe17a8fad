"""How many random cases a test looks at: the first few in every run of the tests, and with ALL_EXAMPLES=1 all of them,
as `make test_chaos` says."""

import os

_ALL = bool(os.environ.get("ALL_EXAMPLES"))


def examples(few: int, many: int) -> int:
    """`few`, or `many` where all are asked for. Cases that are drawn from a seed are drawn in the same order, so that
    the few are the first of the many."""
    return many if _ALL else few
