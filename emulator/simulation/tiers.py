"""The `[tiers]` table of a scenario: capacity of the flex tier, and the tier that serves."""

import random
from dataclasses import dataclass, fields
from typing import Any

from askmill.emulator.protocol.chat_errors import resource_unavailable
from askmill.emulator.simulation.scenario_tables import check_keys, read_share, read_word

ASKED_TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")
TIERS = ("default", "flex", "priority", "scale")


@dataclass(frozen=True, slots=True)
class TierManners:
    """The default: every request is served at once, by the tier that it asks for."""

    flex_429: float = 0.0
    """Share of creates with `service_tier` flex that are refused with 429 `resource_unavailable`, not
    carried out.
    """
    served: str = ""
    """Tier that every reply names; empty: the one asked for (`auto`: `default`, `fast`: `priority`)."""


def read_tier_manners(table: dict[str, Any]) -> TierManners:
    """The manners that a `[tiers]` table sets; ScenarioError naming the key of a bad value."""
    check_keys("tiers", table, [field.name for field in fields(TierManners)])
    return TierManners(
        flex_429=read_share("tiers.flex_429", table.get("flex_429", 0.0)),
        served=read_word("tiers.served", table.get("served", ""), ("", *TIERS)),
    )


class Tiers:
    """Draws which requests find capacity, in their order."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a rehearsal, not a secret

    def serve(self, tier: str | None, manners: TierManners) -> str:
        """The tier that serves a request; ApiError 429 without capacity."""
        if tier == "flex" and manners.flex_429 and self._random.random() < manners.flex_429:
            raise resource_unavailable()
        return manners.served or served_tier(tier)


def served_tier(tier: str | None) -> str:
    """The tier that the reply names: `auto` is the project's, here the default one."""
    if tier in {None, "auto"}:
        return "default"
    return "priority" if tier == "fast" else str(tier)
