"""vmsvc: preemptible virtual machines for any OpenStack cloud."""

__version__ = "0.1.0"
