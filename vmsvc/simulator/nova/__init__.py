"""Nova 2.1 to 2.100.

A POST goes through `create` (what is checked), `lifecycle` (from BUILD to ACTIVE or ERROR, and to
404) and `scheduling` (which host). `servers`, `flavors` and `scheduling` hold the objects; `actions` and `listing` are
the rules for what is done to servers and for lists of them; `api`, `servers_api`, `flavors_api` and `hosts_api` answer
over HTTP."""
