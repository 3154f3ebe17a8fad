"""What vmsvc does: commands, the loops that act, and the event feed."""
