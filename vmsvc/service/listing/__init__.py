"""The list of VMs, encoded once for all its readers.

In: rows that changed and servers that the server cache tells of.
Out: the bytes of `GET /api/v1/vm`, and one VM as clients see it.
Begin with: `list_cache.ListCache`.
"""
