"""POST by the HTTP client of `AsyncOpenAI`, with the SDK's address, credentials, headers, query and errors.

`client.post` takes twice the CPU, most of it for copies of its options and for an idempotency key that is not
sent (docs/decisions/sdk.md). A row of chat completions has no other request.
"""

from collections.abc import Mapping

import httpx2
import openai
import orjson

from askmill.jobs.openai_client.client import sdk_headers
from askmill.worker.backends.coerce import Json

NEVER_REPEATED = {"x-stainless-retry-count": "0"}
"""The SDK's header with the number of the try."""


class SdkPost:
    """Sends POST requests to one address, which is built once, as are the headers that never change.

    Args:
        client: Has the pool of connections, the proxy and the hooks (`jobs.openai_client.client`).
        url: The address with its query.
        headers: More headers for each request.
        limits: Time limits of each request.
    """

    def __init__(
        self, client: openai.AsyncOpenAI, url: str, headers: Mapping[str, str], limits: httpx2.Timeout
    ) -> None:
        self._http = client._client  # noqa: SLF001 -- the SDK has no name for it
        self._url, self._headers = httpx2.URL(url), httpx2.Headers(self._http.headers)
        self._headers.update({**sdk_headers(client), **NEVER_REPEATED, **headers})
        self._extensions = {"timeout": limits.as_dict()}

    async def __call__(self, body: Json, headers: Mapping[str, str]) -> httpx2.Response:
        """Send once; return the reply with its body unread. Close it.

        Raises:
            openai.OpenAIError: As `client.post`: a status that is no success, no connection, no reply.
        """
        request = httpx2.Request(
            "POST",
            self._url,
            headers=self._headers,
            cookies=self._http.cookies,
            content=orjson.dumps(body),
            extensions=self._extensions,
        )
        request.headers.update(headers)
        try:
            response = await self._http.send(request, stream=True)
            if response.is_success:
                return response
            try:
                await response.aread()
            finally:
                await response.aclose()
        except httpx2.TimeoutException as error:
            raise openai.APITimeoutError(request=request) from error
        except httpx2.HTTPError as error:
            raise openai.APIConnectionError(request=request) from error
        raise openai.APIStatusError(f"status {response.status_code}", response=response, body=None)
