"""Whether what the environment holds for one API may go to the address that a `.env` names. Pure.

A `.env` may have come with the folder, for example with a repository that was cloned.

address from        key from        at                      what of the environment goes there
default, environment  any           any                     all of it
.env                any             OpenAI's own, https     all of it
.env                environment     loopback                nothing: asked without the key
.env                environment     any other               nothing, unless the person agrees
.env                .env, nowhere   any                     nothing: the file's own key is sent
"""

from enum import Enum
from urllib.parse import urlsplit

from askmill.config.address import is_loopback
from askmill.config.settings import Settings, Source, is_openai

CREDENTIALS = ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS")
"""What the environment may hold for an API; the SDK reads the last three by itself."""


class Use(Enum):
    """What becomes of the environment's credentials."""

    SENT = "sent"
    WITHHELD = "withheld"
    NEEDS_CONSENT = "needs consent"


def use_of(settings: Settings) -> Use:
    """What becomes of them at the address of the settings."""
    return decided(
        settings.base_url, settings.source_of("openai_base_url"), settings.source_of("openai_api_key")
    )


def decided(base_url: str, address: Source, key: Source) -> Use:
    """The table above; a key that is not set has the source `DEFAULT`."""
    if address is not Source.ENV_FILE or (is_openai(base_url) and urlsplit(base_url).scheme == "https"):
        return Use.SENT
    if key is Source.ENVIRONMENT and not is_loopback(base_url):
        return Use.NEEDS_CONSENT
    return Use.WITHHELD
