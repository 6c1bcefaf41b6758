"""Chat completions as a Backend: one call is a run, and the thread is ours. For any compatible server.

create_thread   nothing is sent: the messages lie in Redis
create_run      POST /chat/completions, streamed: returns an ended run with its answer
recover_run     a server keeps nothing of a call: a lost reply cannot be looked up
cancel          closing the connection of `create_run` is the cancel

A function round is a call of its own, with the whole exchange (worker/lifecycle/on_lost_call.py has what
follows from a reply that is lost).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import structlog
from openai import AsyncOpenAI

from askmill.config.local_address import is_local
from askmill.config.proxies import proxy_environment, proxy_for
from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.find_offer import what_is_offered
from askmill.jobs.openai_client.params import Params
from askmill.jobs.openai_client.reply_limits import ReplyTooLarge
from askmill.worker.backends.base import RunRequest
from askmill.worker.backends.chat_parse import parse_completion
from askmill.worker.backends.chat_request import chat_body, field_to_drop
from askmill.worker.backends.chat_stream import BrokenChunk, ChatReader
from askmill.worker.backends.context_check import with_cut_warning
from askmill.worker.backends.errors import bad_reply, error_from_object
from askmill.worker.backends.http import HttpClient
from askmill.worker.lifecycle.api_types import (
    TOO_LARGE,
    Answer,
    ApiError,
    LookupKind,
    Run,
    RunLookup,
    RunStatus,
    ToolOutput,
)

log = structlog.get_logger()

PATH = "chat/completions"
JOB_HEADER = "X-Askmill-Job"
"""Names the row to a server of one's own: `BATCH:ROW:ATTEMPT`."""
FIRST_BYTE_S, IDLE_S, DEADLINE_S = 600.0, 120.0, 3600.0
"""Time limits until the first byte of a reply, between two bytes, and of the whole call."""
AFTER_FINISH_S, AFTER_DONE_S = 5.0, 0.25
"""How long the tokens may come after the answer has ended, and the end of the reply after `[DONE]`."""
IDLE_SLACK = 0.1
"""The limit between two bytes is set anew only when it has moved by this share: bytes come often."""


class ChatCompletionsBackend:
    """Backend of a server of chat completions. Use one per process and event loop."""

    api: Api = "chat"

    def __init__(self, client: AsyncOpenAI) -> None:
        self._http = HttpClient(client)
        self._base_url = base_url = str(client.base_url)
        # Only to a server of one's own, and through nobody: the header names batches.
        self._names_jobs = is_local(base_url) and proxy_for(base_url, proxy_environment()) is None
        self._dropped: dict[str | None, frozenset[str]] = {}
        """By model: the fields that the server has refused by name."""

    async def ensure_assistant(self, profile: Profile, resources: Resources) -> str | None:  # noqa: ARG002 -- no assistants
        return None

    async def create_vector_store(self, files: tuple[str, ...], name: str) -> str:
        raise NotImplementedError("chat completions have no vector stores")

    async def create_thread(self, request: RunRequest) -> str:
        """As in the protocol: an id of ours. A thread is kept by all attempts of its row."""
        return f"{request.batch}-{request.row}"

    async def create_run(self, request: RunRequest, thread_id: str) -> Run:  # noqa: ARG002 -- the messages are the thread
        """As in the protocol. The run has ended; it carries its answer and its message."""
        dropped = self._dropped.get(request.profile.model, frozenset())
        body = chat_body(request, self._base_url, dropped)
        try:
            return await self._call(request, body)
        except ApiError as error:
            field = None if error.began else field_to_drop(error, body)
            if field is None or field in dropped:
                raise
            log.warning("chat.field_dropped", field=field, fault=str(error))
            self._dropped[request.profile.model] = dropped | {field}
        return await self._call(request, chat_body(request, self._base_url, dropped | {field}))

    async def recover_run(
        self,
        request: RunRequest,  # noqa: ARG002
        thread_id: str,  # noqa: ARG002
        earlier_run_ids: frozenset[str],  # noqa: ARG002 -- nothing can be looked up
    ) -> RunLookup:
        return RunLookup(LookupKind.NOTHING)

    async def poll_run(self, request: RunRequest, thread_id: str, run_id: str) -> Run:  # noqa: ARG002 -- as above
        """As in the protocol: a run that ended when it was created; its reply is gone."""
        return Run(id=run_id, status=RunStatus.CANCELLED)

    async def cancel(self, thread_id: str, run_id: str) -> Run:  # noqa: ARG002 -- as above
        """As in the protocol: nothing runs between two calls."""
        return Run(id=run_id, status=RunStatus.CANCELLED)

    async def submit(
        self, request: RunRequest, thread_id: str, run_id: str, outputs: tuple[ToolOutput, ...]
    ) -> Run:
        raise NotImplementedError("outputs are sent with the next call")

    async def recover_submit(self, request: RunRequest, thread_id: str, run_id: str) -> RunLookup:
        raise NotImplementedError("outputs are sent with the next call")

    async def read_answer(self, request: RunRequest, thread_id: str, run_id: str | None) -> Answer:  # noqa: ARG002 -- as above
        """As in the protocol: empty, because the run came with its answer."""
        return Answer(run_id=run_id)

    async def delete_failed_turn(
        self, thread_id: str, after_message_id: str | None, opening: int = 0
    ) -> None:
        """As in the protocol: only a completed turn becomes part of a thread."""

    async def download_file(self, file: dict[str, Any], limit_bytes: int | None = None) -> bytes:
        raise NotImplementedError("chat completions generate no files")

    async def what_is_offered(self) -> str:
        return await what_is_offered(self._http.client, self.api)

    async def close(self) -> None:
        await self._http.close()

    # ── one call ──

    async def _call(self, request: RunRequest, body: Params) -> Run:
        """Send the call and read its reply to the end. Raises ApiError."""
        job = f"{request.batch}:{request.row}:{request.attempt}"
        headers = {JOB_HEADER: job} if self._names_jobs else {}
        reader, limits = ChatReader(), CallLimits(request)
        try:
            reply = self._http.post_stream(PATH, body, headers, lambda: reader.kept_bytes, request.may_send)
            async with limits.scope, reply as (response, pieces):
                await self._read(request, reader, limits, pieces)
        except TimeoutError:
            if not limits.scope.expired():
                raise
            if reader.finish_reason is None or not reader.streamed:
                raise self._lost(reader, request, limits.fault()) from None
        except ApiError as error:
            if reader.finish_reason is None or error.code == TOO_LARGE:
                raise self._lost(reader, request, error) from None
        except (BrokenChunk, ReplyTooLarge) as broken:
            raise self._lost(reader, request, _broken(broken, self._http.client.api_key)) from None
        if reader.error is not None:
            fault = error_from_object(reader.error, response.headers, self._http.client.api_key)
            raise self._lost(reader, request, fault)
        if reader.streamed and reader.finish_reason is None:
            ended = ApiError(200, code="stream_ended", message="the answer ended before it was whole")
            raise self._lost(reader, request, ended)
        run = parse_completion(reader.completion(), request.attempt, streamed=reader.streamed)
        return with_cut_warning(run, body["messages"])

    async def _read(
        self, request: RunRequest, reader: ChatReader, limits: "CallLimits", pieces: AsyncIterator[bytes]
    ) -> None:
        """Read the pieces until the answer and its tokens are there; the connection may stay open longer."""
        on_start = request.on_first_chunk
        async for piece in pieces:
            reader.feed(piece)
            if reader.has_started and on_start is not None:
                await on_start()
                on_start = None
            limits.on_piece(reader)
        reader.end()
        if on_start is not None and reader.error is None and reader.has_started:
            await on_start()

    def _lost(self, reader: ChatReader, request: RunRequest, error: ApiError) -> ApiError:
        """The error with what had come of the answer before it."""
        error.request = error.request or f"POST /{PATH}"
        error.began = reader.streamed and reader.has_started
        if error.began:
            with suppress(ApiError):
                error.partial = parse_completion(reader.completion(), request.attempt, streamed=False).answer
        return error


class CallLimits:
    """The time limits of one call. `scope` ends the call when one has passed."""

    def __init__(self, request: RunRequest) -> None:
        profile, self._loop = request.profile, asyncio.get_running_loop()
        self.first_byte_s = profile.first_byte_s or FIRST_BYTE_S
        self.idle_s = profile.idle_s or IDLE_S
        self.deadline_s = request.deadline_s or DEADLINE_S
        began_at = self._loop.time()
        self._deadline_at = began_at + self.deadline_s
        self.scope = asyncio.timeout_at(min(began_at + self.first_byte_s, self._deadline_at))
        self._limit_at = 0.0

    def on_piece(self, reader: ChatReader) -> None:
        """Something has come: wait for the next piece as long as may be."""
        now = self._loop.time()
        if reader.done:
            limit_at = now + AFTER_DONE_S
        elif reader.finish_reason is not None:
            limit_at = now + (AFTER_DONE_S if reader.has_usage else AFTER_FINISH_S)
        elif now + self.idle_s <= self._limit_at:
            return
        else:
            limit_at = now + self.idle_s * (1 + IDLE_SLACK)
        self._limit_at = limit_at
        self.scope.reschedule(min(limit_at, self._deadline_at))

    def fault(self) -> ApiError:
        """The error of the limit that has passed."""
        if self._loop.time() >= self._deadline_at:
            words = f"no whole answer within {self.deadline_s:g} s"
            return ApiError(None, code="deadline", message=words)
        if not self._limit_at:
            words = f"no byte within {self.first_byte_s:g} s (first_byte_s)"
        else:
            words = f"silent for {self.idle_s:g} s (idle_s)"
        return ApiError(None, code="timeout", message=words)


def _broken(error: Exception, secret: str) -> ApiError:
    if isinstance(error, ReplyTooLarge):
        return ApiError(200, code=TOO_LARGE, message=str(error))
    return bad_reply(200, str(error), secret)
