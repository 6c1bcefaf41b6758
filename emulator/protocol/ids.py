"""Ids in the API's form: a prefix and 24 random characters.

Never seeded: ids outlive a restart with the same seed, and must not repeat.
"""

import secrets


def new_id(prefix: str) -> str:
    """`new_id("run_")` → `run_4f9c…` (24 hexadecimal digits)."""
    return prefix + secrets.token_hex(12)
