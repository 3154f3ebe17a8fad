"""The shell around the pure decisions of `vmsvc.scheduling`.

In: requests that wait, and a snapshot of the cloud.
Out: decisions, applied in one transaction: reservations, notices, intents, events.
Begin with: `scheduler.Scheduler._pass`; `apply.apply` writes what `vmsvc.scheduling.decide_all` decided.
"""
