"""Evictions that are no decision of the scheduler, and the record of all.

In: practised evictions, early releases and lifetimes that end.
Out: notices and intents; the record as clients see it.
Begin with: `record.Evictions`.
"""
