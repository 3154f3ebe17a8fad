"""A simulated OpenStack over HTTP, and an embedded PostgreSQL: what a service runs on where nothing real is configured.

Requests of any OpenStack client come in, to Keystone, Nova, Placement, Glance, Neutron and Cinder under one address;
answers with the statuses, fields, messages and delays of the real services go out. Tests steer the cloud through
`/sim/…` (README.md). Nothing here imports the rest of vmsvc. To read it, begin with `cloud` (what there is), then
`nova/lifecycle` (what happens to a server), `server` (the process) and `embedded` (what `make run` starts)."""
