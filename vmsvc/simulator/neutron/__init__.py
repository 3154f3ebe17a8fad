"""Neutron v2.0: networks and ports. `model` holds them, `api` answers over HTTP."""
