"""Stand-ins for what a real installation has: a simulated cloud and an embedded PostgreSQL.

Nothing here imports the rest of vmsvc, so that the service meets them as it meets the real ones.
"""
