"""The plugin for `openstack` (python-openstackclient): the commands `openstack preemptible ...`.

In: the arguments of a command and the session of the program. Out: the rows that it prints. The plugin imports
`vmsvc.client` and osc-lib, which is there wherever `openstack` is. Begin with `plugin`, which the program imports at
every start; `commands` has what all commands share.
"""
