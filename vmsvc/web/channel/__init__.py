"""The channel: events at `/api/v1/events`, as pages and over WebSockets.

In: events that the service's hub publishes, each framed once. Out: the same bytes to every socket that wants them.
Begin with `handlers`. `socket_writer` sends frames past Tornado's `write_message` and says why and what that saves;
`frames` has the WebSocket protocol; `close_codes` says how a socket can end.
"""
