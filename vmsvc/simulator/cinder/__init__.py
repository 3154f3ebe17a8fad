"""Cinder v3, as far as servers boot from volumes: volumes and limits. Read in its API reference; not measured.

`model` holds the volumes, `api` answers over HTTP. Nova attaches and makes them (`vmsvc/simulator/nova/volumes.py`).
"""
