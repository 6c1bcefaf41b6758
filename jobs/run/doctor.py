"""Looks at everything a batch needs and says what is wrong: settings, Redis, the API, the workers.

Each finding has the exit code it leads to: 0 well, 2 a setting, 3 something unreachable.
"""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from redis.asyncio import Redis

from askmill.config.proxies import environment, excepted, proxy_for
from askmill.config.settings import BadSetting, Settings, load_settings
from askmill.config.text import safe_text
from askmill.jobs.local.open_store import redis_url
from askmill.jobs.model.api_target import NO_CONSENT, Consent, Target, target_of
from askmill.jobs.model.errors import AskmillError, UsageError
from askmill.jobs.openai_client.client import make_client, probe
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store import Store
from askmill.jobs.store.redis_errors import address

SETTING, UNREACHABLE = 2, 3
PROBE_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at; with code 0 it is well, or worth knowing."""

    what: str
    said: str
    code: int = 0

    def __str__(self) -> str:
        mark = "ok   " if self.code == 0 else "FAULT"
        return safe_text(f"{mark} {self.what}: {self.said}")


async def examine(consent: Consent = NO_CONSENT) -> list[Finding]:
    """Everything in order; a fault of the settings ends it, for nothing else can be looked at then."""
    try:
        settings = load_settings()
        Prices.read(settings.prices)
    except BadSetting as bad:
        return [Finding("settings", sentence, SETTING) for sentence in str(bad).splitlines()]
    python = ".".join(str(part) for part in sys.version_info[:3])
    findings = [Finding("settings", f"read without fault (Python {python}, data in {settings.data_dir})")]
    try:
        target = target_of(settings, asks=False)
    except UsageError as refused:
        findings.append(Finding("api", str(refused), SETTING))
        target = None
    findings += [finding async for finding in _redis(settings, target)]
    if target is not None:
        findings.append(_way(target))
        if findings[-1].code == 0:
            findings.append(await _api(settings, consent))
    return findings


def _way(target: Target) -> Finding:
    """Which way all requests to the API take."""
    known = environment()
    try:
        proxy = proxy_for(target.base_url, known)
    except BadSetting as bad:
        return Finding("proxy", str(bad), SETTING)
    if proxy is not None:
        return Finding("proxy", f"requests to {target.base_url} go through {proxy}")
    named = " (NO_PROXY names it)" if excepted(target.base_url, known) else ""
    return Finding("proxy", f"requests to {target.base_url} go directly, without a proxy{named}")


async def _redis(settings: Settings, target: Target | None) -> AsyncIterator[Finding]:
    where = "embedded" if settings.redis_url is None else address(settings.redis_url.get_secret_value())
    try:
        with redis_url(settings) as url:
            async with await Store.open(url) as store:
                yield Finding("redis", f"{where} answers (batches: {len(await store.list_batches()):,})")
                for finding in await _server(url):
                    yield finding
                yield await _workers(store, settings, target)
    except AskmillError as error:
        yield Finding("redis", str(error), error.exit_code)


async def _server(url: str) -> list[Finding]:
    """How that Redis is set up, where it matters to us."""
    async with Redis.from_url(url) as redis:
        told = await redis.info()
    findings = []
    if told.get("redis_mode") == "cluster":
        findings.append("is a Cluster, which Celery cannot use: name a single Redis in ASKMILL_REDIS_URL")
    if told.get("maxmemory") and told.get("maxmemory_policy") != "noeviction":
        findings.append(
            f"may throw away batches when it is full (maxmemory-policy {told['maxmemory_policy']}): "
            "set it to noeviction"
        )
    faults = [Finding("redis", fault, SETTING) for fault in findings]
    if not told.get("aof_enabled"):
        faults.append(
            Finding("redis", "keeps no AOF: its crash would lose the last minutes (appendonly yes)")
        )
    return faults


async def _workers(store: Store, settings: Settings, target: Target | None) -> Finding:
    alive = await store.workers()
    matching = [
        card for card in alive if target and (card.api, card.base_url) == (target.api, target.base_url)
    ]
    if matching:
        slots = sum(card.slots for card in matching)
        return Finding("workers", f"{len(matching)} alive for {matching[0].api}, {slots} runs at once")
    if alive:
        other = alive[0]
        return Finding(
            "workers",
            f"{len(alive)} alive, but for {other.api} at {other.base_url}: they do not take batches of these "
            "settings. Start one with `askmill worker` here.",
        )
    hint = "`askmill run` starts its own" if settings.redis_url is None else "`askmill worker` starts one"
    return Finding("workers", f"none is alive; {hint}")


async def _api(settings: Settings, consent: Consent) -> Finding:
    try:
        target = target_of(settings, consent=consent)
    except UsageError as refused:
        return Finding("api", str(refused), SETTING)
    key, organization, project = target.key, target.organization, target.project
    async with make_client(
        key, target.base_url, organization, project, PROBE_TIMEOUT_S, target.environ
    ) as api_client:
        try:
            await probe(api_client, target.api)
        except AskmillError as error:
            return Finding("api", str(error), error.exit_code)
    return Finding("api", f"{target.base_url} answers ({target.api})")
