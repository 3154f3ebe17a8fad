"""Evictions that the scheduler does not decide on, and the record of all evictions.

In: practised evictions, early releases and lifetimes that end.
Out: notices and intents; the record as clients see it.
Begin with: `record.Evictions`.
"""
