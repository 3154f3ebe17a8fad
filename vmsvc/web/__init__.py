"""HTTP and WebSocket: a handler parses a request, calls one method of the service and writes the response.

In: requests of clients. Out: calls to `vmsvc.service`, responses, and frames to WebSockets.
Begin with `app` (the routes and what the handlers work with), then `api` (a handler for each address of the REST API).
Imports go one way: `app` → `channel` → `api` → `openapi` → `http`.
"""
