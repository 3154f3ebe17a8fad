"""Carry intents out in the cloud, each under a lease.

In: claimed intents (`store.intents`) and the rows that they name.
Out: calls to the cloud, and the state that each row has then; a step may run twice.
Begin with: `worker.Worker`; `create_server`, `remove_server` and `notice` are its performers.
"""
