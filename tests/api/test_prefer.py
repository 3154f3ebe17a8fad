"""The Prefer header as RFC 7240 has it."""

import time

import pytest

from vmsvc.web.http.request import Prefer, parse_prefer


@pytest.mark.parametrize(
    "header, respond_async, wait",
    [
        ("", False, None),
        ("respond-async", True, None),
        ("Respond-Async", True, None),
        ("respond-async, wait=10", True, 10),
        ("wait=10,respond-async", True, 10),
        ("wait = 10", False, 10),
        ('wait="10"', False, 10),
        ("wait=10; note=1", False, 10),
        ('return=minimal; foo="a,wait=3", wait=4', False, 4),
        ('note="wait=3, respond-async"', False, None),
        (r'note="a\",respond-async", wait=5', False, 5),
        ("wait=3, wait=4", False, 3),
        ("wait", False, None),
        ("wait=", False, None),
        ("wait=soon", False, None),
        ("wait=-1", False, None),
        ("wait=1.5", False, None),
        ("wait=\u0661", False, None),
        ("wait=99999999999999999999", False, None),
        ("respond-asyncs", False, None),
        (',,;=,"', False, None),
    ],
)
def test_preferences_are_read_and_what_is_not_understood_is_ignored(header, respond_async, wait):
    assert parse_prefer(header) == Prefer(respond_async, wait)


def test_a_hostile_header_is_read_at_once():
    began = time.perf_counter()
    for header in ('"' * 30_000, "," * 30_000, '"\\' * 15_000, ';"a' * 10_000, 'a="b' * 7_000):
        parse_prefer(header)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    "prefer, seconds",
    [
        (Prefer(), 300),
        (Prefer(True), 0),
        (Prefer(True, 5), 5),
        (Prefer(wait=5), 5),
        (Prefer(wait=500), 300),
        (Prefer(wait=0), 0),
    ],
)
def test_how_long_to_wait(prefer, seconds):
    assert prefer.timeout(300) == seconds
