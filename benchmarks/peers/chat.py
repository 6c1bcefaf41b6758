"""A minimal server of chat completions: `python -m benchmarks.peers.chat RUN_S` prints its URL.

The emulator has no chat completions, which curator, async-batch-llm and inspect-ai request. Each request is
held open for RUN_S seconds.
"""

import asyncio
import sys
from typing import Any

from aiohttp import web

ANSWER = "12 * 34 is 408."


def completion(model: str) -> dict[str, Any]:
    """A reply like OpenAI's, with every field that clients check."""
    usage = {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}
    message = {"role": "assistant", "content": ANSWER, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    envelope = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model}
    return {**envelope, "choices": [choice], "usage": usage}


async def main(run_s: float) -> None:
    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(run_s)
        return web.json_response(completion(body["model"]))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
