"""Servers that a list of changes shows again and again."""

import pytest

from vmsvc.cloud.openstack.servers import Changes

RAW = {"id": "A", "name": "web", "status": "BUILD", "created": "2026-11-23T12:00:00Z"}


@pytest.fixture(name="changes")
def fixture_changes():
    """It has shown A once."""
    changes = Changes()
    changes.begin()
    changes.read(dict(RAW))
    return changes


def shown(changes, raw):
    """In a read of its own."""
    changes.begin()
    return changes.read(raw)


def test_what_is_shown_again_as_it_was_is_taken_in_once(changes):
    first = shown(changes, dict(RAW))
    assert shown(changes, dict(RAW)) is first and first.status == "BUILD"


@pytest.mark.parametrize("change", [{"status": "ACTIVE"}, {"metadata": {"vmsvc_id": "1"}}, {"name": "db"}])
def test_any_change_is_seen(changes, change):
    first = shown(changes, dict(RAW))
    now = shown(changes, RAW | change)
    assert now != first and now.body == RAW | change


def test_what_the_last_read_did_not_show_is_forgotten(changes):
    first = shown(changes, dict(RAW))
    changes.begin()
    assert shown(changes, dict(RAW)) is not first
