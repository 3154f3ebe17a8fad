"""Stand-ins for what a real installation has: a simulated cloud and an embedded PostgreSQL.

Nothing here imports the rest of vmsvc, so that the service meets them as it meets the real ones.

The simulated cloud is a process of its own: `python -m vmsvc.sim --dir DIR`, or `start.start(DIR)`. Keystone, Nova,
Placement, Glance and Neutron answer under one address; DIR/clouds.yaml has the clouds `sim-admin` and `sim-demo`.
It is steered over the same port, with JSON and without a token:

    GET, DELETE  /sim/state                  all of it in short; DELETE: as new
    GET, PUT     /sim/settings               durations and switches (`settings.Settings`)
    GET, POST    /sim/clock                  {"advance": seconds}, {"frozen": true}
    GET, POST, DELETE /sim/faults            {"action": …} of the wire (`faults.ACTIONS`), {"kind": …} of servers
                                             (`troubles.KINDS`); DELETE ends what hangs
    GET, DELETE  /sim/calls                  what clients asked: service, method, path, status, since
    POST, PUT, DELETE /sim/hosts[/NAME]      new hosts; size, reserved, ratio, alive, disabled, refuses, cell_down, …
    PUT          /sim/quotas/PROJECT         instances, cores, ram, port
    POST, GET, PUT, DELETE /sim/servers[/ID] servers that are there at once; {"power": "off"}; gone at once
    POST         /sim/users, /sim/flavors    a role in a project; a size
    DELETE       /sim/tokens                 revoke all
    GET          /metadata/ID/openstack/latest/meta_data.json   what the guest reads at 169.254.169.254
"""
