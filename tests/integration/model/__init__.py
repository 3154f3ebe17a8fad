"""A cloud, a clock and replicas in one thread, in which a test decides what happens next."""
