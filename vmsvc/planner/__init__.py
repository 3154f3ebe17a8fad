"""The planner decides which VMs have to leave so that a request fits: exact, pure, usable without the rest of vmsvc.

In:    bins (what a request needs in each place, what is free there, which candidates could leave) and options.
Out:   `Fits` (no eviction is needed), `Preempt` (victims, objective, runner-up) or `NoPlan` (why none helps).
Call:  `plan` for one request; `plan_batch` for equal ones; `BinIndex` for bins that are kept between requests; all else
       is internal, and only the names of this module are used from outside.
Begin with `preemption`; then `bins` and `objective` (the question, what is minimised), `bin_plans`, `search`.
"""

from vmsvc.planner.batch import BatchPlan, Share, plan_batch
from vmsvc.planner.bin_index import BinIndex
from vmsvc.planner.bins import NODE_CAP, Bin, Candidate, PlanOptions
from vmsvc.planner.joint_quota import join_quota
from vmsvc.planner.objective import Objective, cost_of
from vmsvc.planner.preemption import Fits, NoPlan, Outcome, Preempt, plan

__all__ = [
    "NODE_CAP",
    "BatchPlan",
    "Bin",
    "BinIndex",
    "Candidate",
    "Fits",
    "NoPlan",
    "Objective",
    "Outcome",
    "PlanOptions",
    "Preempt",
    "Share",
    "cost_of",
    "join_quota",
    "plan",
    "plan_batch",
]
