"""Which tests run together and which run first when several processes share them (`pytest -n`).

A test of the whole service spends most of its time waiting for a notice, a cloud or a time limit. So there are more
processes than cores, each takes one such test after the other, and those that wait longest begin first: at the end no
process is left alone with them.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Files with tests that wait for long, the longest first.
LONGEST = (
    "tests/openstack/test_service_queue.py",
    "tests/openstack/test_service_interference.py",
    "tests/openstack/test_service.py",
    "tests/openstack/test_service_evidence.py",
    "tests/system/test_crashes.py",
    "tests/system/test_conformance.py",
    "tests/openstack/test_service_futility.py",
    "tests/system/test_runbook.py",
    "tests/system/test_database_faults.py",
    "tests/system/test_batch_work.py",
    "tests/system/test_hostile.py",
    "tests/system/test_lineage.py",
    "tests/system/test_queue.py",
    "tests/integration/test_nobody_for_nothing.py",
    "tests/integration/test_interleavings.py",
    "tests/system/test_storm.py",
)
_FOLDERS = ("tests/openstack", "tests/system", "tests/simulator", "tests/integration")
#: Their tests share what is costly to make: one process runs all tests of a file.
SHARING = ("test_database_faults", "test_failover", "test_tls")


def _rank(item: pytest.Item) -> tuple[int, int]:
    file = item.nodeid.partition("::")[0]
    longest = LONGEST.index(file) if file in LONGEST else len(LONGEST)
    return longest, next((at for at, folder in enumerate(_FOLDERS) if file.startswith(folder)), len(_FOLDERS))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that wait longest first; the tests of one file stay together."""
    items.sort(key=_rank)


class Scheduler(LoadScopeScheduling):  # pylint: disable=abstract-method; the base leaves them out too
    """Gives out the tests in the order of their collection: those of the whole service one by one, the others file by
    file. Tests on an OpenStack share a service for each mode."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        if file.startswith("tests/openstack"):
            mode = next((mode for mode in ("tenant", "operator") if mode in test.partition("[")[2]), "")
            return f"{file} {mode}"
        alone = file.startswith("tests/system") and not any(name in file for name in SHARING)
        return nodeid if alone else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling | None:
    """The scheduler for `--dist loadscope`."""
    if config.getvalue("dist") != "loadscope":
        return None
    config.option.loadscopereorder = False
    return Scheduler(config, log)
