"""The client, written once with async/await.

`tenantry._sync` is made from this package by tools/generate_sync.py: change this one only.
"""
