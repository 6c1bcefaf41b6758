"""Finds out which API a batch uses where ASKMILL_API is not set and the server is not OpenAI's.

A batch that exists under any of the APIs keeps its API, and no server is asked: asking is no part of the
identity. Otherwise the server is asked once (jobs/openai_client/find_offer.py), before anything is stored.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import get_args
from urllib.parse import urlsplit

from askmill.config.local_address import is_local
from askmill.config.proxies import proxy_environment, proxy_for
from askmill.jobs.intake import Intake
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.errors import ApiUnavailable, KeyRefused, UsageError
from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import MIN_COMPLETION_TOKENS
from askmill.jobs.store import Store
from askmill.jobs.submit.profile_loader import CHAT_PROMISE, refuse_unsupported
from askmill.jobs.submit.request import Say, SubmitRequest, identity_of
from askmill.jobs.submit.tier_rules import refuse_tier

ASK_TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 5.0


async def with_api(
    store: Store, intake: Intake, request: SubmitRequest, say: Say
) -> tuple[SubmitRequest, bool]:
    """The request with its API: as set, that of the batch with this identity, or what the server offers.

    The second value says whether the server was asked. Before that its address is printed, with its source.

    Raises:
        ApiUnavailable: the server cannot be reached, refuses the key, or is certainly no API.
        UsageError: the API does not support the profile, or a row's limit.
    """
    if request.target.api is not None:
        return request, False
    if not request.new:
        for api in get_args(Api):
            decided = _decided(request, api)
            if await store.find_identity(identity_of(intake, decided)) is not None:
                return decided, False
    target = await _found_target(store, request.target, say)
    found = f"{target.base_url} offers {target.api}"
    refuse_unsupported(request.profile, target.known_api, intake.spec.overrides, found)
    _check_row_limits(intake, target.known_api, found)
    if target.api == "chat":
        say(f"Note: {CHAT_PROMISE}")
    decided = replace(request, target=target)
    refuse_tier(decided)
    return decided, True


async def _found_target(store: Store, target: Target, say: Say) -> Target:
    """The target with the API that the server offers; without a key here, with that of the living workers."""
    if target.source_line is not None:
        say(target.source_line)
    try:
        return await ask_for_api(target, say)
    except KeyRefused:
        workers = [one for one in await store.workers() if not one.batch]
        apis = {
            one.api for one in workers if one.api and one.server.serves(target.server._replace(api=one.api))
        }
        if target.key is not None or len(apis) != 1:
            raise
        return replace(target, api=apis.pop())


def _decided(request: SubmitRequest, api: Api) -> SubmitRequest:
    return replace(request, target=replace(request.target, api=api))


async def ask_for_api(target: Target, say: Say) -> Target:
    """The target with the API that its server offers. Raises ApiUnavailable."""
    # Loading the SDK takes half a second of CPU: in a thread, so that a server's event loop is not blocked.
    await asyncio.to_thread(import_module, "askmill.jobs.openai_client.find_offer")
    from askmill.jobs.openai_client.client import API_NAMES, make_client  # noqa: PLC0415 -- as above
    from askmill.jobs.openai_client.find_offer import require_offer  # noqa: PLC0415 -- as above

    key, organization, project = target.key, target.organization, target.project
    async with make_client(
        key, target.base_url, organization, project, ASK_TIMEOUT_S, target.proxy_environ
    ) as api_client:
        offer = await require_offer(api_client, first=True)
    api = offer.apis[0]
    if offer.assumed:
        found = f"does not show which API it has; {API_NAMES[api]} are tried. Set ASKMILL_API for another."
    else:
        found = f"offers {API_NAMES[api]}. ASKMILL_API={api} saves the requests that found this."
    say(f"{target.base_url} {found}")
    return replace(target, api=api)


def _check_row_limits(intake: Intake, api: Api, found: str) -> None:
    """Raises UsageError for a row whose own token limit is below what the API takes."""
    least, name = MIN_COMPLETION_TOKENS[api], "max_completion_tokens"
    if name not in intake.spec.overrides or least == 1:
        return
    column = intake.spec.columns.index(name)
    for number, row in enumerate(intake.rows_iter(), 1):
        cell = str(row.cells[column]).strip()
        if row.reject is None and cell.isdecimal() and int(cell) < least:
            raise UsageError(
                f"row {number}: {name} {cell} is not a whole number of at least {least} ({found})."
            )


async def check_local_server(target: Target) -> None:
    """Raises ApiUnavailable if nothing listens at a local address. Other addresses are not tried.

    Called before a new batch is stored: a server that has not been started is the user's to start.
    """
    parts = urlsplit(target.base_url)
    if target.offline or not is_local(target.base_url) or proxy_for(target.base_url, proxy_environment()):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except OSError as error:  # TimeoutError is one
        reason = error.strerror or str(error) or "no answer"
        raise ApiUnavailable(
            f"The API at {target.base_url} does not answer: {reason}. Start the server, or "
            "check OPENAI_BASE_URL."
        ) from None
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
