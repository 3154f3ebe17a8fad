"""What vmsvc does: the commands of clients, the loops that decide and act, and the feed of events.

In: calls of the web layer, notifications of PostgreSQL, and what the cloud shows. Out: rows and events, by the store;
calls to the cloud, by its port. Begin with `commands` (what clients may ask), then `scheduling.scheduler` (the pass)
and `acting.worker` (carries intents out). `reconciler` compares rows with the cloud, `runtime` runs the loops.
"""
