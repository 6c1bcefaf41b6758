"""The scenario file: run times, outcomes, faults and the account's state, read from TOML and checked.

[latency]  median_s, sigma                 how long runs take
[outcomes] "failed(server_error)" = 0.1    shares of undirected runs; the rest complete
[http]     shares of requests that go wrong on the wire, and how (see `Http`)
[run]      expires_s                       what every run has
[clock]    offset_s                        the server's clock
[account]  error = "insufficient_quota"    what is refused to the whole account (see errors.ACCOUNT)
[chat]     error_shape, usage, …           manners of a server of chat completions (see chat_manners.py)
[tiers]    flex_429, served                 capacity and tier of what is asked (see tiers.py)
[batches]  validate_s, run_s, …            manners of a server of batches (see batch_manners.py)

The text under each field is its line in docs/reference/scenario.md (`python docs/remake.py`).
"""

import tomllib
from dataclasses import dataclass, field, fields
from typing import Any

from askmill.emulator.protocol.errors import ACCOUNT
from askmill.emulator.simulation.batch_manners import BatchManners, read_batch_manners
from askmill.emulator.simulation.chat_manners import ChatManners, read_manners
from askmill.emulator.simulation.directives import DirectiveError, Outcome, parse_outcome
from askmill.emulator.simulation.scenario_tables import ScenarioError, check_keys, read_number, read_share
from askmill.emulator.simulation.tiers import TierManners, read_tier_manners

__all__ = ["SHARES", "Http", "Scenario", "ScenarioError", "read_scenario"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Time from a run's creation to its end, lognormal."""

    median_s: float = 0.002
    """Median time from a run's creation to its end, in seconds; the times are lognormal."""
    sigma: float = 0.0
    """Spread of these times; 0: every run takes the median."""


@dataclass(frozen=True, slots=True)
class Http:
    """Faults on `/v1`. Shares are of the requests that `only` names, and add up to 1 at most."""

    rate_429: float = 0.0
    """Share of requests that are refused with 429 and not carried out."""
    rate_500: float = 0.0
    """Share of requests that fail with 500 and are not carried out."""
    rate_503: float = 0.0
    """Share of requests that are refused with 503 and not carried out."""
    rate_full: float = 0.0
    """Share of requests that are refused with llama-stack's 400 for a full queue."""
    drop_before: float = 0.0
    """Share of requests whose connection is closed before anything is carried out."""
    drop_after: float = 0.0
    """Share of requests that are carried out and whose connection is closed without a reply."""
    retry_after_s: float = 0.0
    """Wait that a 429 asks for, by `Retry-After`, `Retry-After-Ms` and `x-ratelimit-reset-requests`; 0:
    without.
    """
    late_s: float = 0.0
    """How long after the closing a dropped request is carried out; above 0 without `drop_after`, every
    request is dropped.
    """
    slow_s: float = 0.0
    """How long every reply waits; the request is carried out at once."""
    only: tuple[str, ...] = ()
    """Requests that this table applies to: globs such as `"POST /threads/*/runs"`; empty: all of `/v1`."""


SHARES = ("rate_429", "rate_500", "rate_503", "rate_full", "drop_before", "drop_after")


@dataclass(frozen=True, slots=True)
class RunRules:
    """What every run has."""

    expires_s: float = 600.0
    """Time from a run's creation to its `expires_at`, in seconds."""


@dataclass(frozen=True, slots=True)
class ServerClock:
    """The server's clock."""

    offset_s: float = 0.0
    """Seconds that the server's clock is ahead of this machine's, or behind if negative; read at the
    start.
    """


@dataclass(frozen=True, slots=True)
class Account:
    """The state of the account."""

    error: str = ""
    """What the account is refused, see below; empty: an account in order."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything a scenario file may set; the default: no faults, runs of two milliseconds."""

    latency: Latency = field(default_factory=Latency)
    outcomes: tuple[tuple[float, Outcome], ...] = ()
    http: Http = field(default_factory=Http)
    run: RunRules = field(default_factory=RunRules)
    clock: ServerClock = field(default_factory=ServerClock)
    account: Account = field(default_factory=Account)
    chat: ChatManners = field(default_factory=ChatManners)
    batches: BatchManners = field(default_factory=BatchManners)
    tiers: TierManners = field(default_factory=TierManners)


def read_scenario(text: str) -> Scenario:
    """The scenario written in TOML; ScenarioError naming the key that is unknown or has a bad value."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"not TOML: {error}") from None
    known = [f.name for f in fields(Scenario)]
    for name, table in tables.items():
        if name not in known:
            raise ScenarioError(f"[{name}] is unknown; known: {', '.join(known)}")
        if not isinstance(table, dict):
            raise ScenarioError(f"`{name}` must be a table, written [{name}]")
    scenario = Scenario(
        latency=Latency(**_numbers("latency", Latency, tables)),
        outcomes=_outcomes(tables.get("outcomes", {})),
        http=Http(**_numbers("http", Http, tables), only=_globs(tables.get("http", {}))),
        run=RunRules(**_numbers("run", RunRules, tables)),
        clock=ServerClock(**_numbers("clock", ServerClock, tables, least=float("-inf"))),
        account=_account(tables.get("account", {})),
        chat=read_manners(tables.get("chat", {})),
        batches=read_batch_manners(tables.get("batches", {})),
        tiers=read_tier_manners(tables.get("tiers", {})),
    )
    _check_shares("http", [(key, getattr(scenario.http, key)) for key in SHARES])
    return scenario


def _numbers(name: str, shape: type, tables: dict[str, Any], least: float = 0.0) -> dict[str, float]:
    table = tables.get(name, {})
    check_keys(name, table, [f.name for f in fields(shape)])
    return {key: read_number(f"{name}.{key}", value, least) for key, value in table.items() if key != "only"}


def _globs(table: dict[str, Any]) -> tuple[str, ...]:
    only = table.get("only", [])
    if not isinstance(only, list) or not all(isinstance(glob, str) and " /" in glob for glob in only):
        raise ScenarioError(f'http.only must be a list such as ["POST /threads/*/runs"], not {only!r}')
    return tuple(only)


def _outcomes(table: dict[str, Any]) -> tuple[tuple[float, Outcome], ...]:
    _check_shares("outcomes", list(table.items()))
    try:
        return tuple((float(share), parse_outcome(text)) for text, share in table.items())
    except DirectiveError as error:
        raise ScenarioError(f"outcomes: {error}") from None


def _check_shares(name: str, shares: list[tuple[str, Any]]) -> None:
    for key, share in shares:
        read_share(f"{name}.{key}", share)
    if sum(share for _, share in shares) > 1 + 1e-9:
        raise ScenarioError(
            f"the shares of [{name}] ({', '.join(key for key, _ in shares)}) add up to more than 1"
        )


def _account(table: dict[str, Any]) -> Account:
    check_keys("account", table, ["error"])
    error = table.get("error", "")
    if error and error not in ACCOUNT:
        raise ScenarioError(f"account.error {error!r} is unknown; known: {', '.join(ACCOUNT)}")
    return Account(error)
