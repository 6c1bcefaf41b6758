"""One refusal in the shapes in which servers that speak OpenAI's API send it. Pure.

openai         {"error": {"message", "type", "param", "code": text or null}}       OpenAI, Azure
int_code       the same, `code` is the HTTP status                                 vLLM, llama.cpp
flat           {"object": "error", "message", "type", "param", "code": status}     SGLang
string         {"error": "text"}                                                   LM Studio, TGI
array          [{"error": {"code": status, "message", "status": WORD}}]            Gemini
detail         {"detail": [{"loc", "msg", "type"}]}, 422 for a bad request; {"detail": "text"} Mistral
ok_with_error  as int_code; a call that fails answers 200 with the error as body   OpenRouter
mid_stream     as int_code; a call that fails has started its stream before          OpenRouter
"""

from typing import Any

from askmill.emulator.protocol.routing import ApiError, Json, Reply, json_bytes

SHAPES = ("openai", "int_code", "flat", "string", "array", "detail", "ok_with_error", "mid_stream")

_VLLM_TYPES = {400: "BadRequestError", 404: "NotFoundError", 429: "RateLimitError"}
_GOOGLE_WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


def refusal_reply(refusal: ApiError, shape: str) -> Reply:
    """The HTTP reply of a refusal; a firewall's page has no shape of the API."""
    if refusal.page:
        return Reply(refusal.page.encode(), refusal.status, refusal.headers, b"text/html")
    status = 422 if shape == "detail" and refusal.status == 400 else refusal.status
    return Reply(json_bytes(shaped(refusal, shape)), status, refusal.headers)


def shaped(refusal: ApiError, shape: str) -> Any:
    """The body of a refusal; also an event in a stream."""
    error: Json = refusal.body["error"]
    message, status = error["message"], refusal.status
    match shape:
        case "openai":
            return refusal.body
        case "flat":
            kind = _VLLM_TYPES.get(status, "InternalServerError")
            return {
                "object": "error",
                "message": message,
                "type": kind,
                "param": error["param"],
                "code": status,
            }
        case "string":
            return {"error": message}
        case "array":
            word = _GOOGLE_WORDS.get(status, "INTERNAL")
            return [{"error": {"code": status, "message": message, "status": word}}]
        case "detail" if status == 400:
            fault = {"loc": ["body", error["param"]], "msg": message, "type": "value_error"}
            return {"detail": [fault]}
        case "detail":
            return {"detail": message}
        case _:
            return {"error": error | {"code": status}}
