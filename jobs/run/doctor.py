"""The checks of `doctor`: settings, Redis, the workers, the proxy and the API.

Each finding has the exit code it leads to: 0 no fault, 2 a bad setting, 3 something cannot be reached.
"""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import version

from openai import OpenAIError

from askmill.config.proxies import is_excluded, proxy_environment, proxy_for
from askmill.config.redis_address import shown_address
from askmill.config.settings import BadSetting, Settings, load_settings
from askmill.config.text import count_of, safe_text
from askmill.jobs.display.stall_text import (
    functions_reason,
    other_worker_reason,
    server_text,
    stall_reason,
)
from askmill.jobs.display.status_text import fault_line, waiting_line
from askmill.jobs.display.worker_versions import other_versions_line
from askmill.jobs.local.open_store import redis_url
from askmill.jobs.model.api_target import NO_CONSENT, Consent, Target, api_target
from askmill.jobs.model.errors import ApiUnavailable, AskmillError, Unavailable, UsageError
from askmill.jobs.model.models import BatchState, Server
from askmill.jobs.openai_client.client import API_NAMES, describe_error, make_client
from askmill.jobs.openai_client.find_offer import (
    Offer,
    listed_models,
    models_text,
    nothing_found,
    require_offer,
)
from askmill.jobs.openai_client.model_ends import end_notice
from askmill.jobs.openai_client.offers import probe
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store import Store

SETTING_FAULT = 2
PROBE_TIMEOUT_S = 15.0
MOST_WAITS = 20
"""Lines about waits that are shown."""


@dataclass(frozen=True)
class Finding:
    """The result of one check; code 0 means that it passed, perhaps with a warning."""

    check: str
    message: str
    code: int = 0
    warning: bool = False

    def __str__(self) -> str:
        mark = "FAULT" if self.code else "WARN " if self.warning else "ok   "
        return safe_text(f"{mark} {self.check}: {self.message}")


async def run_checks(consent: Consent = NO_CONSENT) -> list[Finding]:
    """Run all checks. A bad setting ends them, because the others need the settings."""
    try:
        settings = load_settings()
        Prices.read(settings.prices)
    except BadSetting as fault:
        return [Finding("settings", sentence, SETTING_FAULT) for sentence in str(fault).splitlines()]
    python = ".".join(str(part) for part in sys.version_info[:3])
    findings = [Finding("settings", f"valid (Python {python}, data in {settings.data_dir})")]
    try:
        target = api_target(settings, needs_key=False)
    except UsageError as fault:
        findings.append(Finding("api", str(fault), SETTING_FAULT))
        target = None
    findings += [finding async for finding in _check_redis(settings, target)]
    if target is not None:
        if (end := end_notice(settings.model, target.base_url)) is not None:
            findings.append(Finding("model", end, warning=True))
        findings.append(_check_proxy(target))
        if findings[-1].code == 0:
            findings += await _check_api(settings, consent)
    return findings


def _check_proxy(target: Target) -> Finding:
    variables = proxy_environment()
    try:
        proxy = proxy_for(target.base_url, variables)
    except BadSetting as fault:
        return Finding("proxy", str(fault), SETTING_FAULT)
    if proxy is not None:
        return Finding("proxy", f"requests to {target.base_url} go through {proxy}")
    exception = " (NO_PROXY names it)" if is_excluded(target.base_url, variables) else ""
    return Finding("proxy", f"requests to {target.base_url} go directly, without a proxy{exception}")


async def _check_redis(settings: Settings, target: Target | None) -> AsyncIterator[Finding]:
    name = "embedded" if settings.redis_url is None else shown_address(settings.redis_url.get_secret_value())
    try:
        with redis_url(settings) as url:
            durability = settings.durability_in_use
            async with await Store.open(url, durability=durability) as store:
                batches = len(await store.list_batches())
                yield Finding("redis", f"{name} answers (batches: {batches:,}, durability {durability})")
                if refusal := await store.write_refusal():
                    yield Finding("redis", refusal, Unavailable.exit_code)
                for finding in await _check_redis_server(store):
                    yield finding
                yield await _check_workers(store, settings, target)
                if other := other_versions_line(await store.workers(), version("askmill")):
                    yield Finding("workers", other, warning=True)
                for finding in await _check_waits(store):
                    yield finding
    except AskmillError as error:
        yield Finding("redis", str(error), error.exit_code)


async def _check_redis_server(store: Store) -> list[Finding]:
    """What the Redis server may lose, and whether it can do what ASKMILL_DURABILITY says."""
    try:
        weaknesses = await store.check_server()
    except UsageError as fault:
        return [Finding("redis", str(fault), SETTING_FAULT)]
    return [
        Finding("redis", found.sentence, SETTING_FAULT * found.in_normal_use, warning=True)
        for found in weaknesses
    ]


async def _check_workers(store: Store, settings: Settings, target: Target | None) -> Finding:
    alive = await store.workers()
    matching = [
        worker for worker in alive if target and not worker.batch and _may_serve(worker.server, target.server)
    ]
    if matching:
        slots = sum(worker.slots for worker in matching)
        api = matching[0].api or "any API"
        return Finding("workers", f"{len(matching)} alive for {api}, {count_of(slots, 'slot')}")
    if alive and all(worker.batch for worker in alive):
        return Finding(
            "workers",
            f"{len(alive)} alive, each for the batch of one `askmill run`; `askmill worker` starts one for "
            "all batches",
        )
    if alive:
        other = next(worker for worker in alive if not worker.batch)
        return Finding(
            "workers",
            f"{len(alive)} alive, but for {server_text(other.server)}, so they do not process batches of "
            "these settings. Start one with `askmill worker` here.",
        )
    hint = "`askmill run` starts its own" if settings.redis_url is None else "`askmill worker` starts one"
    return Finding("workers", f"none is alive; {hint}")


def _may_serve(worker: Server, settings: Server) -> bool:
    """Whether the worker takes batches of these settings, whose API may be found out at submit only."""
    return worker.serves(settings) or worker._replace(api="") == settings


async def _check_waits(store: Store) -> list[Finding]:
    """Who waits for what, until when, and what the API last said: as `status` shows it.

    Also which batches are paused, or wait for a worker of another address, API or account than those alive.
    """
    findings = []
    unfinished = {BatchState.QUEUED, BatchState.RUNNING, BatchState.PAUSED}
    for batch in [batch for batch in await store.list_batches() if batch.state in unfinished]:
        view = await store.status(batch.id)
        is_paused = batch.state is BatchState.PAUSED
        stall = stall_reason(view) if view.waiting or is_paused else ""
        findings += [
            Finding("waits", f"{batch.id}: {line}", warning=is_paused and view.waiting is None)
            for line in (waiting_line(view), fault_line(view), stall)
            if line
        ]
        if reason := functions_reason(view):
            findings.append(Finding("functions", f"{batch.id}: {reason}", warning=True))
        elif reason := other_worker_reason(view):
            findings.append(Finding("waits", f"{batch.id}: {reason}", warning=True))
        if len(findings) >= MOST_WAITS:
            break
    return findings


async def _check_api(settings: Settings, consent: Consent) -> list[Finding]:
    """Whether the API answers; without ASKMILL_API what the server offers; and whether it has the model."""
    try:
        target = api_target(settings, consent=consent)
    except UsageError as fault:
        return [Finding("api", str(fault), SETTING_FAULT)]
    key, organization, project = target.key, target.organization, target.project
    try:
        client = make_client(
            key, target.base_url, organization, project, PROBE_TIMEOUT_S, target.proxy_environ
        )
    except BadSetting as fault:
        return [Finding("api", str(fault), SETTING_FAULT)]
    async with client:
        try:
            if target.api is None:
                offer = await require_offer(client)
                api, models = offer.apis[0], offer.models
                answers = _offer_text(target, offer)
                if offer.assumed:
                    used = f"Without ASKMILL_API, batches use {API_NAMES[api]}."
                    return [Finding("api", f"{nothing_found(offer, client)} {used}", warning=True)]
            else:
                await probe(client, target.api)
                api, models = target.api, await listed_models(client)
                answers = f"{target.base_url} answers ({api})"
        except AskmillError as error:
            return [Finding("api", str(error), error.exit_code)]
        except OpenAIError as error:
            return [Finding("api", describe_error(error, client), ApiUnavailable.exit_code)]
    findings = [Finding("api", answers)]
    if api == "chat" and models and settings.model not in models:
        missing = f"{settings.model} is not among the server's models ({models_text(models)})"
        advice = "Set ASKMILL_MODEL, or name the model in a profile or with --model."
        findings.append(Finding("model", f"{missing}. {advice}", warning=True))
    return findings


def _offer_text(target: Target, offer: Offer) -> str:
    offered = " and ".join(f"{API_NAMES[api]} (ASKMILL_API={api})" for api in offer.apis)
    models = f"; models: {models_text(offer.models)}" if offer.models else ""
    first = "; without ASKMILL_API, batches use the first" if len(offer.apis) > 1 else ""
    return f"{target.base_url} offers {offered}{first}{models}"
