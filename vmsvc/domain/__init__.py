"""What vmsvc knows and decides: standard library only, no clock, no random, no I/O."""
