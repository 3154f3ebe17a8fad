"""Follow the outbox, and hand committed events to the sockets and requests that wait for them.

In: notifications of PostgreSQL, and the events that they announce.
Out: events in the order of `seq`, to sockets and to requests that wait.
Begin with: `listener.Listener`, then `feed.Feed` and `hub.Hub`. From the hub an event goes to each socket's
`web.channel.socket_writer.SocketWriter`, which ends the subscription of a peer that does not read.
"""
