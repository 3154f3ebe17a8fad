"""Any OpenStack cloud behind the port; the only package that imports openstacksdk, keystoneauth and requests.

In: the calls of `cloud.port.Cloud`, as plain values. Out: the port's values, or one of `domain.errors`.
A call is a `CloudRequest` (exchange) that passes the `Limiter` (limits) and runs in a thread through the `Session`. Its
`Answer` becomes an error (translate) or a value (parse); `calls` is that path from end to end.
Begin with `adapter.OpenStack`; its calls are in `servers`, `catalog` and `hosts`.
"""
