"""Identify clients, and limit how often each may ask.

In: tokens of a file, Keystone tokens, tickets of browsers.
Out: a `Principal`, or Unauthenticated; TooManyRequests.
Begin with: `tokens` and `keystone`.
"""
