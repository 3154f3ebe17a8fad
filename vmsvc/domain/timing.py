"""How long vmsvc waits for a cloud, and how often it looks again: the values for real clouds, in one place, in seconds.
Tests, whose clouds are quicker, pass others to `bootstrap`."""

from dataclasses import dataclass

from vmsvc.domain.webhooks import SCHEDULE, URGENT_PAUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Where a value is a tuple, its items are the pauses before the first, second, ... try; the last one stays."""

    # The caches of the cloud
    full_list: float = 60.0  # between reads of the full list of servers, for each page of it
    compute_services: float = 2.0  # between reads of the compute services while callers need them
    catalog_reread: float = 1.0  # from one reading of a list because of a request to the next

    # The scheduler
    pass_while_waiting: float = (
        1.0  # between passes while a request waits; what changes in the database starts one earlier
    )
    #: Evictions wait until no standard request has come for so long: those that come together are planned together.
    settle: float = 0.1
    try_again: float = 60.0  # a request in the queue is tried again after the cloud has refused one like it
    exempt: float = 300.0  # for so long at least a VM that could not be evicted is no candidate
    #: For how long a request about which the cloud gave no answer is not rehearsed again: the first time, and at most.
    silence: tuple[float, float] = (1.0, 30.0)
    #: A VM that was evicted is started again where there has been capacity for so long, ...
    steady_capacity: float = 10.0
    restarts_a_minute: int = 10  # ... and not more than so many of one owner
    #: Beyond its notice, for a victim whose guest and whose host are slow to let it go.
    removal: float = 600.0

    # The worker
    lease: float = 30.0  # a replica that has not renewed its claims for so long loses them
    retries: tuple[float, ...] = (1.0, 2.0, 5.0, 15.0, 30.0)  # of an intent that failed
    build_host: float = 5.0  # between two reads of the host's state while a build goes on
    #: The pauses after a POST without an answer, before it is sent again.
    find_server: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    #: Nova's scheduler refused a create although the freed capacity is there, because its view lags: the pauses before
    #: the create is sent again.
    create_retries: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    cooldown: float = 300.0  # for so long others like it do not go to a host that refused a request
    resend_delete: float = 60.0  # a DELETE that hangs (its host was down) is sent again
    resend_failed_delete: float = 2.0  # a DELETE that failed in the cloud is sent again
    unreadable_notice: float = 60.0  # after `evict_at`, for a guest that cannot read its notice yet
    unreadable_notice_poll: float = 1.0

    # Webhooks
    webhook_timeout: float = 15.0  # for one request, from the look-up of the name to the status
    webhook_lease: float = 20.0  # a delivery whose replica died is sent again after so long; longer than one request
    webhook_retries: tuple[float, ...] = SCHEDULE
    webhook_urgent: float = URGENT_PAUSE
    webhook_troubled: float = 1.0  # after many failures in a row: from one attempt at an endpoint to the next
    webhook_turn: float = 0.1  # between two turns of the dispatcher, so that a burst costs few transactions

    # Rounds
    reconciler_round: float = 5.0
    reconciler_round_noticed: float = 1.0  # while a VM is noticed: a guest that powers itself off is released early
    restore_marks: float = 60.0  # from one try to put the marks of a server back to the next
    search_lineages: float = 10.0  # between searches for lineages that an older release has left open
    search_ports: float = 60.0  # between searches for ports that no lineage has
    lifetimes_round: float = 2.0
    restart_loop: tuple[float, ...] = (0.2, 1.0, 3.0, 10.0)  # before a loop that failed is started again
