"""The handlers of the REST API.

In: requests whose client may be identified. Out: JSON, made from what one method of the service returns.
Begin with `handler` (what these handlers share), then the module of the address: `vms`, `evictions`, `capacity` (with
`/usage` and `/catalog`), `identity` (`/me`), `monitoring` (`/healthz`, `/readyz`, `/metrics`). `requests` has the
schemas of bodies and queries. `/api/v1/events` and `/api/v1/tickets` are in `vmsvc.web.channel`.
"""
