"""The values and tables that all layers of vmsvc share: standard library only, no clock, no random numbers, no I/O.

In:    what the cloud and the database say, as plain values.
Out:   frozen values (`Request`, `Host`, `Flavor`, `Resources`, ...), the table of a VM's life, the errors by meaning.
Every module may be used from outside; none of them imports another layer.
Begin with `lifecycle` (the states of a VM and the moves between them), then `resources` and `request`.
"""
