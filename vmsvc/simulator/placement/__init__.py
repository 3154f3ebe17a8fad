"""Placement 1.0 to 1.39: resource providers, inventories, allocations.

`model` holds them and decides on claims;
`providers_api` and `allocations_api` answer over HTTP."""
