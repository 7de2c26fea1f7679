"""Non-interference: what an attacker sees does not depend on the other tenant's data.

The same program of an attacker runs in two databases that differ only in what the other tenant has
and does; everything the attacker can observe must be equal. See README.md of policies_tests.
"""
