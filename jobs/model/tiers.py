"""Service tiers: the same answers at another price and another wait.

`--tier` has askmill's names; `service_tier` of a profile, of a request and of a reply has the API's. They
differ in one: the API calls the standard tier `default`. `batch` is never sent: its rows travel in files.
"""

from typing import Literal, get_args

Tier = Literal["standard", "flex", "priority", "batch"]
ServiceTier = Literal["auto", "default", "flex", "priority", "batch"]
TIERS: tuple[Tier, ...] = get_args(Tier)
STANDARD = "default"
"""The API's name of the standard tier."""


def service_tier_of(tier: str) -> str:
    """The API's name of a tier."""
    return STANDARD if tier == "standard" else tier


def tier_of(service_tier: str | None) -> str:
    """Our name of a tier. Without one a request is served as the project's settings say, mostly standard."""
    return "standard" if service_tier in {None, "auto", STANDARD} else str(service_tier)
