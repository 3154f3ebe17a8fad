"""Scheduling decides what to do for requests: pure decisions over a `World`, no clock, no random numbers, no I/O.

In:    `WaitingRequest`s, an `IndexedWorld` (quota, hosts, VMs, reservations, budgets) and `Knowledge`.
Out:   `Commit` (the changes to apply), `Verify` (what the cloud has to be asked first) or `Settle` (wait first).
Call:  `decide_all` for a pass; `decide` and `review` for one request; `capacity_of` for what people see.
Begin: `decide_all.py`, `decide.py`; then `world`, `vms` (what is known), `bins`, `candidates` (the planner's part).
"""
