"""Requests that the service sends to the endpoints of webhooks.

In: a URL, headers and a body. Out: the status of the answer; nothing else of it is kept.
Begin with `client.OutgoingClient`. `resolver` looks a host up, judges its addresses, and gives the connection exactly
those addresses that it judged.
"""
