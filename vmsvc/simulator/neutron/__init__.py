"""Neutron v2.0: networks, subnets, ports, security groups.

`model` and `security_groups` hold them; `api` and `security_groups_api` answer over HTTP.
"""
