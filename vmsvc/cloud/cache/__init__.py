"""What vmsvc remembers of a cloud, kept up to date by Nova's `changes-since`: the cost follows changes, not size.

In: pages of servers, of providers and of services, read through `cloud.port.Cloud`.
Out: `ServerCache.servers` (the project's servers) and `HostCache.hosts()` (an operator's hosts with what is allocated
on each, counted by `HostAllocations`), and the sets of what changed since the last question.
Begin with `server_cache`; nothing here decides anything.
"""
