"""Scheduling decides what to do for a request: pure decisions over a `World`, without clock, chance or I/O.

In:    a `Request` and an `IndexedWorld` (quota, hosts, VMs, reservations, budgets; the service builds it).
Out:   one of `decisions`: Place, Evict, Reprieve, Wait, Postpone or Refuse. The service carries it out.
Doors: `decide` and `review` for one request, `decide_batch` for equal ones, `capacity_of` for what people see.
Begin: `decide.py`; then `world` and `vms` (what is known), `bins` and `candidates` (what the planner is asked).
"""
