"""The channel: events at `/api/v1/events`, as pages, over WebSockets, and as Server-Sent Events.

In: events that the service's hub publishes, each encoded once. Out: the same bytes to every peer that wants them.
Begin with `handlers`, then `subscription`. `socket_writer` sends bytes past Tornado's `write_message`, and says why;
`frames` has the WebSocket protocol, `event_stream` the other; `close_codes` says how a socket can end.
"""
