"""Errors of servers that refuse for money or do not know a model, with their sources; and similar errors."""

import json

QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this "
    "error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
)
GEMINI = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this "
    "error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. \n* Quota exceeded for metric: "
    "generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 10\nPlease retry in 17.3s."
)
LITELLM = "Budget has been exceeded! Current cost: 26.075, Max budget: 0.25"
RATE = (
    "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 25000, "
    "Requested 9000. Please try again in 8s. Visit https://platform.openai.com/account/rate-limits to learn more. "
    "You can increase your rate limit by adding a payment method to your account at "
    "https://platform.openai.com/account/billing."
)
AZURE_RATE = (
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-08-01-preview have exceeded "
    "token rate limit of your current OpenAI S0 pricing tier. Please retry after 60 seconds. Please go here: "
    "https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit."
)
OPENROUTER = (
    "This request requires more credits, or fewer max_tokens. You requested up to 16384 tokens, but can only afford "
    "3919. To increase, visit https://openrouter.ai/settings/credits and upgrade to a paid account"
)
FIREWORKS = (
    "Account acme is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices. "
    "Please go to https://fireworks.ai/account/billing for more information."
)
XAI = (
    "Your team 16f2151a has either used all available credits or reached its monthly spending limit. To continue "
    "making API requests, please purchase more credits or raise your spending limit."
)
CREDIT = (
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase "
    "credits."
)
NO_DEPLOYMENT = (
    "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, "
    "please wait a moment and try again."
)


def error(**fields: object) -> dict[str, object]:
    """OpenAI's shape."""
    return {"error": fields}


MONEY = {
    "OpenAI, error guide": (429, error(message=QUOTA, type="insufficient_quota", code="insufficient_quota")),
    "OpenAI, by type only": (403, error(message="pay", type="insufficient_quota", code=None)),
    "OpenAI, image API": (
        400,
        error(message="Billing hard limit has been reached", code="billing_hard_limit_reached"),
    ),
    "the same words without a code": (400, error(message="Billing hard limit has been reached")),
    "RamiAwar/dataline #175": (
        429,
        error(message="Your account is not active, please check your billing details on our website."),
    ),
    "OpenAI's words, another code": (429, error(message=QUOTA, code="rate_limit_exceeded", type="requests")),
    "BerriAI/litellm #40002": (429, error(message=LITELLM, type="budget_exceeded", code="429")),
    "BerriAI/litellm #4208": (400, error(message=LITELLM, type="auth_error", code=400)),
    "BerriAI/litellm #14144, wrapped": (
        400,
        error(
            message=f"litellm.BadRequestError: OpenAIException - {LITELLM}. Received Model Group=x",
            code="400",
        ),
    ),
    "BerriAI/litellm #14144, router": (
        429,
        error(
            message="No deployments available - crossed budget: Exceeded budget for deployment model_name: x: 0.36 >= 1d"
        ),
    ),
    "OWASP/OpenCRE #1102": (
        400,
        error(
            message="ExceededBudget: End User=i over budget. Spend=0.0008, Budget=0.0001", type="x", code=400
        ),
    ),
    "BerriAI/litellm #37000, custom words": (
        429,
        error(message="Ask Ada.", type="budget_exceeded", code="429"),
    ),
    "Aider-AI/aider #1686, Python's notation": (
        429,
        error(
            message="litellm.RateLimitError: RateLimitError: OpenAIException - Error code: 429 - "
            + repr({"error": {"message": QUOTA, "type": "insufficient_quota", "code": "insufficient_quota"}})
        ),
    ),
    "DeepSeek, api-docs error codes": (
        402,
        error(message="Insufficient Balance", type="unknown_error", code="invalid_request_error"),
    ),
    "DeepSeek behind a gateway": (400, error(message="Error: DeepseekException - Insufficient Balance")),
    "openclaude #1125, OpenRouter": (402, error(message=OPENROUTER, code=402)),
    "OpenRouter under another status": (400, error(message=OPENROUTER)),
    "OpenRouter, no credits": (402, error(message="Insufficient credits", code=402)),
    "claude-code #66314, Anthropic": (
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": CREDIT}},
    ),
    "Anthropic's spend limit": (
        400,
        error(
            type="invalid_request_error",
            message="You have reached your specified API usage limits. You will regain access on 2026-09-01.",
        ),
    ),
    "Anthropic, billing_error": (402, error(type="billing_error", message="Check your payment details.")),
    "edsl #2098, Together": (
        402,
        error(
            message="Credit limit exceeded. Please navigate to https://api.together.xyz/settings/billing to add."
        ),
    ),
    "the same under 400": (400, error(message="Credit limit exceeded.", type="credit_limit")),
    "continue #10373, xAI: a bare string": (429, error(message=XAI)),
    "luxus/pi-xai #10": (403, error(message="You have run out of credits or need a Grok subscription.")),
    "pollinations #12136, Fireworks": (
        412,
        error(message=FIREWORKS, code="PRECONDITION_FAILED", type="error"),
    ),
    "the same, nested twice": (
        500,
        error(
            message="Image provider error: failed: " + json.dumps(error(message=FIREWORKS)),
            code="UNKNOWN_ERROR",
        ),
    ),
    "Groq's spend limit, console.groq.com/docs/spend-limits": (
        400,
        error(message="no", code="blocked_api_access"),
    ),
    "Groq, as seen": (400, error(message="no", code="spend_alert_reached", type="invalid_request_error")),
    "Moonshot": (
        429,
        error(
            message="Your account org-1 is suspended due to insufficient balance, please recharge your account",
            type="exceeded_current_quota_error",
        ),
    ),
    "Zhipu": (429, error(message="余额不足或无可用资源包,请充值。", code="1113")),
    "Alibaba": (
        400,
        error(message="Access denied, make sure your account is in good standing.", code="Arrearage"),
    ),
    "gemini-cli #22486: no free tier": (
        429,
        [error(code=429, message=GEMINI.replace("limit: 10", "limit: 0"), status="RESOURCE_EXHAUSTED")],
    ),
    "OpenRouter, a key's own limit": (403, error(message="Key limit exceeded (total limit).", code=403)),
    "a gateway's details": (
        400,
        error(message="Request rejected", details={"error_code": "insufficient_balance"}),
    ),
    "any 402": (402, {"detail": "Please pay."}),
    "a 402 that is no JSON": (402, "<html>Payment Required</html>"),
}

NOT_MONEY = {
    "OpenAI's rate limit": (429, error(message=RATE, type="tokens", code="rate_limit_exceeded")),
    "FORUM 1366574": (
        429,
        error(message="You've exceeded the rate limit, please slow down.", code="rate_limit_exceeded"),
    ),
    "continue #9570, Gemini": (429, [error(code=429, message=GEMINI, status="RESOURCE_EXHAUSTED")]),
    "continue #11926, Gemini in a string": (
        429,
        error(message=json.dumps(error(code=429, message=GEMINI, status="RESOURCE_EXHAUSTED")), code=429),
    ),
    "continue #10560, Gemini": (
        429,
        error(
            code=429, message="Resource has been exhausted (e.g. check quota).", status="RESOURCE_EXHAUSTED"
        ),
    ),
    "crewAI #3434, Gemini through LiteLLM": (
        429,
        error(
            message="litellm.RateLimitError: VertexAIException - "
            + json.dumps(error(code=429, message=QUOTA[:77], status="RESOURCE_EXHAUSTED"), indent=2)
        ),
    ),
    "introspection_self_prediction #66, Vertex": (
        429,
        error(
            message="Quota exceeded for aiplatform.googleapis.com/generate_content_requests_per_minute_per_project "
            "with base model: gemini-pro. Please submit a quota increase request."
        ),
    ),
    "Vertex": (
        429,
        error(message="Quota exceeded for quota metric 'Generate requests' and limit 'Requests per minute'"),
    ),
    "climb #1, Azure": (429, error(code="429", message=AZURE_RATE)),
    "LiteLLM's cooldown": (
        429,
        error(message="No deployments available for selected model, Try again in 60 seconds."),
    ),
    "a 402 whose words name a wait": (
        402,
        error(message="In-flight budget used. Try again in 20s.", code=402),
    ),
    "a 500": (500, error(message="The server had an error while processing your request. Sorry about that!")),
    "a content filter that quotes": (
        400,
        error(message='The prompt "Insufficient balance on my card" was filtered', code="content_filter"),
    ),
    "a content filter that repeats": (400, error(message=f"Flagged: {QUOTA}", code="invalid_prompt")),
    "an error object in a question": (
        400,
        error(message="Flagged: " + json.dumps(error(code="insufficient_quota")), code="content_filter"),
    ),
    "an input refused": (400, error(message=f"Invalid input. {QUOTA}", param="input[0].content")),
    "quoted words": (400, error(message=f'Cannot parse "{QUOTA}"')),
    "in mid-sentence": (400, error(message="The word list has insufficient balance between classes.")),
    "our own budget": (400, error(message="a run may cost $0.0006, and less is left", code="budget")),
}

MODEL = {
    "OpenAI": (404, error(message="The model `gpt-9` does not exist or you do not have access to it.", code="model_not_found")),
    "Assistants": (400, error(message="The requested model 'gpt-9' does not exist.", param="model", code=None)),
    "vLLM": (404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}),
    "vLLM, nested": (404, error(message="The model `x` does not exist.", type="NotFoundError", code=404)),
    "Ollama": (404, error(message='model "llama9" not found, try pulling it first', type="api_error")),
    "Ollama, newer": (404, error(message="model 'llama9' not found", type="not_found_error")),
    "llama-stack": (400, {"detail": "Model 'x' not found. Use 'client.models.list()' to list available Models."}),
    "llama-stack, nested": (400, {"error": {"detail": {"errors": [], "message": "Model 'x' not found."}}}),
    "chatbox #861, Azure": (404, error(code="DeploymentNotFound", message=NO_DEPLOYMENT)),
    "semantic-kernel #5319, the words alone": (404, error(message=NO_DEPLOYMENT)),
    "Azure AI": (400, error(code="unknown_model", message="Unknown model: gpt-9")),
    "Mistral": (400, {"object": "error", "message": "Invalid model: foo", "type": "invalid_model", "code": "1500"}),
    "OpenRouter": (400, error(message="openrouter/foo is not a valid model ID", code=400)),
    "LiteLLM": (400, error(message="/chat/completions: Invalid model name passed in model=gpt-4o. Call `/v1/models`")),
    "LiteLLM's detail": (400, {"detail": error(error="/responses: Invalid model name passed in model=gpt-9")}),
    "puter #3168, Together": (400, error(message="Unable to access non-serverless model m/x.", code="model_not_available")),
    "DeepSeek": (400, error(message="Model Not Exist", type="invalid_request_error", code="invalid_request_error")),
    "Gemini": (404, [error(code=404, message="models/foo is not found for API version v1main", status="NOT_FOUND")]),
    "Anthropic": (404, {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-9"}}),
    "Groq": (400, error(message="The model `x` has been decommissioned and is no longer supported.", code="model_decommissioned")),
    "a gateway's 500": (500, error(message="litellm.NotFoundError: OpenAIException - The model `gpt-9` does not exist")),
    "error.error.code": (500, {"error": {"error": {"code": "model_not_found", "message": "no"}}}),
    "JSON inside the message": (500, error(message="upstream: " + json.dumps(error(code="model_not_found", message="x")))),
    "JSON in JSON": (
        502,
        error(message=json.dumps(error(message=json.dumps(error(code="model_not_found", message="x"))))),
    ),
}  # fmt: skip

NOT_MODEL = {
    "no such API": (404, error(message="Invalid URL (POST /v1/threads)")),
    "FastAPI": (404, {"detail": "Not Found"}),
    "an assistant": (404, error(message="No assistant found with id 'asst_1'.")),
    "a store": (404, error(message="Vector store with id ['vs_1'] not found.")),
    "a file": (404, error(message="No such File object: model.txt")),
    "overloaded": (503, error(message="The model is overloaded. Please try again later.")),
    "loading": (503, error(message="Loading model", type="unavailable_error", code=503)),
    "cooling down": (
        429,
        error(message="No deployments available for selected model, Try again in 60 seconds."),
    ),
    "in the question": (400, error(message="The model 'T' does not exist.", param="messages[0].content")),
    "quoted": (400, error(message='Cannot parse "The model x does not exist"')),
    "flagged": (400, error(message="Flagged. The model `T` does not exist.", code="content_filter")),
}

AZURE_FILTER = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify "
    "your prompt and retry."
)
CONTENT = {
    "helm #3327, Azure": (400, error(message=AZURE_FILTER, type=None, param="prompt", code="content_filter", status=400)),
    "the same behind a gateway": (500, error(message=f"litellm.BadRequestError: AzureException - {AZURE_FILTER}")),
    "the code in innererror": (400, error(message="no", innererror={"code": "ResponsibleAIPolicyViolation"})),
    "OpenAI": (400, error(message="Invalid prompt: your prompt was flagged.", code="invalid_prompt")),
    "OpenAI, a picture": (
        400,
        error(message="Error while downloading https://x.example/a.png.", param="url", code="invalid_image_url"),
    ),
    "OpenAI, too long": (
        400,
        error(message="This model's maximum context length is 8192 tokens. You requested 9000.", param=None),
    ),
    "continue #10602: Requested above Limit": (
        429,
        error(
            message="Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, "
            "Requested 61337. The input or output tokens must be reduced in order to run successfully.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
    ),
    "Groq, the same": (
        413,
        error(
            message="Request too large for model `x` in organization `o` service tier `on_demand` on tokens per minute "
            "(TPM): Limit 6000, Requested 9013, please reduce your message size and try again.",
            code="rate_limit_exceeded",
        ),
    ),
    "OpenRouter's moderation": (403, error(message="acme/x requires moderation on Acme. Your input was flagged", code=403)),
    "DeepSeek": (400, error(message="Content Exists Risk", type="invalid_request_error")),
    "Alibaba": (400, error(message="<400> InternalError: no", code="data_inspection_failed")),
    "Gemini": (400, [error(code=400, message="The input token count (2845475) exceeds the maximum number of tokens")]),
    "llama.cpp": (400, error(message="the request exceeds", type="exceed_context_size_error", code=400)),
    "Anthropic": (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9"}}),
}  # fmt: skip
"""Refusals of one row's content: its words, its pictures, its length."""

BUSY = {
    "llama-stack": (400, {"detail": "The request queue is full (max 100). Try again later."}),
    "SGLang": (503, {"object": "error", "message": "The request queue is full.", "type": "x", "code": 503}),
    "OpenAI": (
        503,
        error(message="The engine is currently overloaded, please try again later", type="server_error"),
    ),
    "Anthropic": (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    "Groq's flex": (498, error(message="Flex tier capacity exceeded", code="capacity_exceeded")),
    "llama.cpp": (503, error(message="Loading model", type="unavailable_error", code=503)),
    "instructor #1597, Ollama": (500, error(message="llm server loading model", type="api_error")),
    "TGI": (429, {"error": "Model is overloaded", "error_type": "overloaded"}),
    "OpenAI's flex": (429, error(message="Resource Unavailable", code="resource_unavailable")),
    "a validation of FastAPI's": (422, {"detail": [{"loc": [], "msg": "Too many concurrent requests"}]}),
}
"""Refusals for load, under many statuses: nothing was carried out."""

KEY = {
    "OpenAI": (401, error(message="Incorrect API key provided: sk-x.", code="invalid_api_key")),
    "a bare 401": (401, "Unauthorized"),
    "vLLM": (401, {"error": "Unauthorized"}),
    "Gemini": (400, [error(code=400, message="API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT")]),
    "OpenAI, a restricted key": (
        403,
        error(message="You have insufficient permissions for this operation. Missing scopes: api.model.read"),
    ),
    "OpenAI, a region": (
        403,
        error(message="Country, region, or territory not supported", code="unsupported_country_region_territory"),
    ),
    "Anthropic": (403, {"type": "error", "error": {"type": "permission_error", "message": "no"}}),
}  # fmt: skip
"""Refusals of the key: every row would meet them."""

WAITS = {
    "Rate limit reached. Please try again in 20s. Visit …": 20.0,
    "Please try again in 6m0s.": 360.0,
    "Please try again in 1h2m3.5s": 3723.5,
    "Please try again in 250ms.": 0.25,
    AZURE_RATE: 60.0,
    "No deployments available for selected model, Try again in 60 seconds.": 60.0,
    GEMINI: 17.3,
    "Please wait 5 minutes and try again": 300.0,
    "retry after: 2 days": 172800.0,
    "Too many requests. Please try again later.": None,
    "Please retry your request.": None,
    "The 20s were a decade. Try again.": None,
}
"""Words of an error → the seconds that it asks to wait."""
