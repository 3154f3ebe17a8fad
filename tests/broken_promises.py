"""For each promise the line of code that holds it, and what it is when it is broken: `python -m tests.broken_promises`
breaks one after the other in a copy, and shows whether the quick test of that promise fails, and after how long.

`tests/unit/test_promises.py` has the tests, and checks that this list knows the code.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TESTS = "tests/unit/test_promises.py"
_LIMIT = 60.0  # seconds for one test that may not end


class Held(NamedTuple):
    """A promise, the test that names it, and the text in a file that holds it, whole and broken."""

    promise: str
    test: str
    file: str
    line: str
    broken: str


def _held(file: str, *rows: tuple[str, str, str, str]) -> list[Held]:
    return [Held(promise, f"test_{test}", f"vmsvc/{file}", line, broken) for promise, test, line, broken in rows]


_FITS = "1_nobody_is_evicted_for_a_request_that_would_not_fit_afterwards"
_ASKED = "1_nova_is_asked_before_anybody_is_noticed_and_what_it_refuses_evicts_nobody"
_VAIN = "1_a_cause_that_no_api_shows_costs_one_round_and_is_not_tried_again_for_an_hour"
_BEST = "2_victims_are_chosen_by_the_criteria_in_their_order_and_the_one_that_decided_is_named"
_UNREAD = "3_a_running_guest_that_cannot_read_its_notice_is_not_evicted_and_stays_after_a_minute"
_LAST = "8_nova_is_asked_again_in_the_last_two_seconds_and_a_refusal_reprieves_the_victims"
_OTHERS = "others_servers_are_never_touched_and_left_over_ones_only_after_two_rounds"

HELD = [
    *_held(
        "planner/bins.py",
        (
            "1: after the plan the request fits",
            "1_a_plan_evicts_only_where_the_request_fits_once_the_victims_have_left",
            "name: need - max(self.free[name], 0) for",
            "name: 1 for",
        ),
    ),
    *_held(
        "scheduling/free_capacity.py",
        ("1: a quota below what is used", _FITS, "shortfall=Resources(shortfall)", "shortfall=Resources()"),
        (
            "4: freed capacity is reserved",
            "4_freed_capacity_is_reserved_for_the_request_that_it_was_freed_for",
            "later, now = later - reserved, now - (reserved - still_held).floored()",
            "later, now = later, now",
        ),
        (
            "4: free when the cloud confirms it",
            "4_capacity_counts_as_free_when_the_cloud_confirms_it",
            "now=(now - uncounted).floored()",
            "now=later.floored()",
        ),
    ),
    *_held(
        "scheduling/eligibility.py",
        ("1: hosts that would not take it", _FITS, "return host.available and could_take(", "return could_take("),
    ),
    *_held(
        "scheduling/decide.py",
        (
            "1: a preemptible request",
            _FITS,
            "    if request.is_preemptible:\n        if coming",
            "    if False:\n        if coming",
        ),
        ("1: a failed build", _FITS, 'if request.refusal == "cloud_error":', "if False:"),
        ("1: what was in vain", _VAIN, "return why_futile(request, world) or Evict(", "return Evict("),
        (
            "5: capacity elsewhere reprieves",
            "5_capacity_that_becomes_free_by_itself_on_any_host_reprieves_the_victims",
            "(_free_elsewhere(request, world) if noticed else None) or ",
            "",
        ),
        (
            "5: a tenant's request is tried again",
            "5_a_tenants_request_is_tried_again_when_a_vm_as_large_has_left",
            "return Place() if alone and ended and",
            "return Place() if alone and not ended and",
        ),
        (
            "5: a needless victim is reprieved",
            "5_a_victim_that_is_no_longer_needed_is_reprieved",
            "return Reprieve(tuple(sorted(unneeded))) if unneeded else Wait(",
            "return Wait(",
        ),
        (
            "7: two rounds",
            "7_a_request_has_two_rounds_of_eviction_at_most",
            "return _refuse_more_rounds(request, world)\n    return why_futile",
            "pass\n    return why_futile",
        ),
    ),
    *_held(
        "scheduling/decide.py",
        (
            "budgets of eviction groups",
            "of_an_eviction_group_no_more_leave_together_than_its_budget_allows",
            "outcome = bins.plan(False, world.budgets)",
            "outcome = bins.plan(False, {})",
        ),
    ),
    *_held(
        "scheduling/verification.py",
        ("1: a rehearsal before a notice", _ASKED, "if needs_victims(decision) or ends else", "if ends else"),
        (
            "1: Nova's refusal evicts nobody",
            _ASKED,
            "return Refuse(objection.error, objection.message) if objection else decision",
            "return decision",
        ),
        ("1: no answer, no notice", _ASKED, "if isinstance(decision, Evict)\n", "if not isinstance(decision, Evict)\n"),
        ("8: a last check", _LAST, "waiting.first_end - now <= _LAST_CHECK", "waiting.first_end < now"),
        (
            "8: its refusal reprieves",
            _LAST,
            "case Wait() | Reprieve() if request.id:",
            "case Reprieve() if request.id:",
        ),
    ),
    *_held(
        "domain/evidence.py",
        (
            "1: wrong evidence counts no more",
            "1_where_the_evidence_of_a_host_was_wrong_it_does_not_count_again_for_as_large_a_request",
            "return held.at <= self.at and need.covers(self.need)",
            "return False",
        ),
    ),
    *_held(
        "planner/objective.py",
        (
            "2: priorities first",
            _BEST,
            "counts[victim.priority] = counts.get(victim.priority, 0) + 1",
            "counts[0] = counts.get(0, 0) + 1",
        ),
        ("2: then those that ran", _BEST, "sum(victim.ran for victim in victims)", "0"),
        ("2: then lost work", _BEST, "sum(victim.lost_work_at(now) for victim in victims)", "0"),
        ("2: then surplus", _BEST, "bin_.surplus(victims),", "0,"),
        ("2: the criterion is named", _BEST, 'return f"fewer victims of priority {priority}"', 'return "best"'),
    ),
    *_held(
        "planner/bin_plans.py",
        (
            "2: no victim could stay",
            "2_if_any_victim_stayed_the_request_would_not_fit",
            "if candidate.id in ids]",
            "]",
        ),
    ),
    *_held(
        "domain/grace_period.py",
        ("3: untouched before evict_at", "3_a_victim_is_untouched_before_its_evict_at", "if when > now:", "if False:"),
        (
            "3: the whole grace period",
            "3_a_guest_has_its_whole_grace_period_from_the_moment_when_it_could_read_the_notice",
            "return max(self.evict_at, self.readable_at + self.grace)",
            "return self.evict_at",
        ),
        (
            "3: an unread notice evicts nobody",
            _UNREAD,
            "return None if self.running else self.evict_at",
            "return self.evict_at",
        ),
        ("3: and ends after a minute", _UNREAD, "            return Step.EXEMPT", "            pass"),
        (
            "3: an owner or guest may end it",
            "3_only_its_owner_or_guest_ends_a_notice_early",
            "when = notice.acknowledged_at or notice.due",
            "when = notice.due",
        ),
        (
            "3: a practised notice evicts nobody",
            "3_a_notice_that_is_only_practised_ends_without_an_eviction",
            "return Step.REPRIEVE if notice.only_practised else Step.EVICT",
            "return Step.EVICT",
        ),
        (
            "9: no late eviction",
            "9_a_notice_whose_end_is_long_past_is_withdrawn",
            "return now - ended > max(EXPIRED_AFTER, self.grace)",
            "return False",
        ),
    ),
    *_held(
        "service/scheduling/apply.py",
        (
            "3: its end is a column",
            "3_a_restart_neither_shortens_nor_forgets_a_notice_because_its_end_is_a_column",
            "intents.enqueue(work, intents.EVICT, victim.id, not_before=evict_at)",
            "intents.enqueue(work, intents.EVICT, victim.id)",
        ),
        ("4: nobody is noticed twice", "4_nobody_is_noticed_twice", "if victim.state != State.ACTIVE:", "if False:"),
    ),
    *_held(
        "scheduling/candidates.py",
        (
            "4: no shared victim",
            "4_two_requests_never_share_a_victim",
            "and (vm.state is State.ACTIVE and vm.present",
            "and (vm.present",
        ),
        (
            "7: who cannot leave is no candidate",
            "7_who_cannot_be_evicted_is_no_candidate",
            "and not vm.untouchable",
            "",
        ),
    ),
    *_held(
        "service/acting/remove_server.py",
        (
            "6: a shutdown before the delete",
            "6_a_victim_is_stopped_before_it_is_deleted_unless_a_setting_says_otherwise",
            "if self._stop_first:",
            "if False:",
        ),
        (
            "6: nothing before the eviction began",
            "6_the_cloud_is_asked_for_nothing_where_the_eviction_has_not_begun",
            "            if not isinstance(begun, Vm):\n                return\n            row = begun",
            "            row.state = State.EVICTING",
        ),
    ),
    *_held(
        "service/reconciler.py",
        (
            "others' servers",
            _OTHERS,
            "if MARK in server.metadata and server.metadata.get(OWNER) == self._deployment",
            "if MARK in server.metadata",
        ),
        ("left over twice", _OTHERS, "sorted(unwanted & self._suspects)", "sorted(unwanted)"),
        (
            "lost after a 404",
            "a_vm_is_lost_only_after_a_get_that_says_404",
            "if await self._server_cache.read_server(server_id) is None:",
            "if True:",
        ),
    ),
]


def _run(folder: Path, test: str) -> tuple[bool, float, str]:
    """Whether it passes, after how long, and else its error."""
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        f"{TESTS}::{test}" if test else TESTS,
    ]
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=_LIMIT, text=True)
    except subprocess.TimeoutExpired:
        return False, _LIMIT, "no end"
    error = next((line[2:].strip() for line in ended.stdout.splitlines() if line.startswith("E ")), "")
    return ended.returncode == 0, time.monotonic() - began, error


def main() -> int:
    """Break each line and run its test. Returns how many tests did not see it."""
    blind = 0
    with tempfile.TemporaryDirectory(prefix="vmsvc-broken-") as name:
        folder = Path(name)
        for part in ("vmsvc", "tests", "static", "docs"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for held in HELD:
            file = folder / held.file
            whole = file.read_text(encoding="utf-8")
            file.write_text(whole.replace(held.line, held.broken), encoding="utf-8")
            passed, seconds, error = _run(folder, held.test)
            file.write_text(whole, encoding="utf-8")
            blind += passed
            seen = "NOT SEEN" if passed else "fails"
            print(f"{seen} after {seconds:4.1f} s  {held.promise} ({held.file}): {error}", flush=True)
        every, seconds, error = _run(folder, "")
        print(f"whole: {'all pass' if every else 'SOME FAIL'} after {seconds:.1f} s {error}")
    return blind + (not every)


if __name__ == "__main__":
    sys.exit(main())
