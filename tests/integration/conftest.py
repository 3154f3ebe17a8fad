"""The store on a real PostgreSQL."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from vmsvc.store import db, vms
from vmsvc.store.models import Vm

_NUMBERS = itertools.count(1)


@pytest.fixture(name="store")
def fixture_store(database):
    """A fresh database, bound to the models."""
    pool = db.open_database(database.url, 40)
    yield database
    pool.close_all()


@pytest.fixture(name="threads")
def fixture_threads():
    """A pool of threads, for races."""
    with ThreadPoolExecutor(20) as pool:
        yield pool


def request(**changes):
    """The columns of a request."""
    return {
        "name": "standart",
        "is_preemptible": False,
        "priority": 0,
        "min_run_seconds": 0,
        "flavor": "m1.tiny",
        "image": "bed-image",
        "network": "bed-net",
        "boot": {"asked": {"is_preemptible": False}},
        "quota": {"instances": 1, "cores": 1, "ram": 1024},
        "room": {"VCPU": 1},
        **changes,
    }


def new_vm(**changes) -> Vm:
    """A VM that was just accepted."""
    with db.unit() as work:
        vm_id = vms.accept(work, f"vm-{next(_NUMBERS)}", request(**changes), principal="anonymous", key=None)
    return read(vm_id)


def move(row, *states, **columns):
    """Move the VM of a row through these states, in a transaction each; returns the row as it is then."""
    for state in states:
        with db.unit() as work:
            row = vms.move(work, row, state, **columns)
    return row


def read(vm_id: str) -> Vm:
    """The row as it is now."""
    with db.reading():
        return Vm.get_by_id(vm_id)
