"""What every request has in common, whatever it asks.

In: connections and requests of strangers. Out: handlers with a request id, an identified client, limits, and errors in
one shape. Begin with `handler` (the base of all handlers). `server` bounds connections and unsent responses, `limits`
bounds requests, `auth` identifies clients, `proxies` finds the client behind a proxy, `request` parses, `static_files`
serves files, `metrics` counts, `settings` has the numbers.
"""
