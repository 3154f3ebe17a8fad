"""The scheduler: read the queue and the cloud, let `vmsvc.scheduling` decide, and write what it decided.

In: requests that wait, and a snapshot of the cloud.
Out: decisions, applied in one transaction: reservations, notices, intents, events.
Begin with: `scheduler.Scheduler._pass`; `apply.apply` writes what `vmsvc.scheduling.decide_all` decided.
"""
