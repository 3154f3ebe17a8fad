"""The cloud behind one contract (`port`), and openstacksdk behind that contract (`openstack`)."""
