"""The cloud: one contract, one implementation, one cache.

`port` is the contract: frozen values and the calls of `Cloud`; the service imports it and `cache`, never `openstack`.
`openstack` implements the contract with openstacksdk. `cache` keeps servers and hosts as last read.
In: requests of the service, as values of the port. Out: values of the port, or `domain.errors`.
Begin with `port`.
"""
