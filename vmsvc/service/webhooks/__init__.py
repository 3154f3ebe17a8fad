"""Send committed events to the endpoints that clients have named.

In: the outbox, and what clients ask about their endpoints. Out: signed POSTs, and what became of them.
Begin with `dispatcher.Dispatcher` (the background work), then `endpoints.Webhooks` (what clients may ask). `transport`
is the contract of what sends requests; `vmsvc.web.outgoing` implements it.
"""
