"""Who asks, and how often each may.

In: tokens of a file, Keystone tokens, tickets of browsers.
Out: a `Principal`, or Unauthenticated; TooManyRequests.
Begin with: `tokens` and `keystone`.
"""
