"""Which API a batch is asked at: OpenAI's, a compatible one, or the emulator on this machine."""

from dataclasses import dataclass

from pydantic import SecretStr

from config.address import is_local, is_loopback
from config.proxies import environment, proxy_for
from config.settings import Settings, is_openai
from jobs.errors import UsageError
from jobs.models import Api

OFFLINE = "offline:"
"""The emulator's address in a batch's identity, whatever its port is today."""


@dataclass(frozen=True)
class Target:
    """`base_url` is empty for an emulator that has not been started yet."""

    api: Api
    base_url: str
    api_key: SecretStr | None
    offline: bool
    organization: str | None = None
    project: str | None = None

    @property
    def address(self) -> str:
        """What stands in a batch's identity."""
        return OFFLINE if self.offline else self.base_url

    @property
    def key(self) -> str | None:
        """The key to send; None at a local address without one, where no Authorization header goes along."""
        return None if self.api_key is None else self.api_key.get_secret_value()

    @property
    def exposed_key(self) -> str | None:
        """A warning about a key that would pass a network unencrypted; None if it does not."""
        if self.offline or self.api_key is None:
            return None
        if not self.base_url.startswith("http:") or is_loopback(self.base_url):
            return None
        return (
            f"Warning: OPENAI_API_KEY is sent to {self.base_url} without encryption. "
            "Use https://, or unset the key if this server needs none."
        )

    @property
    def environ(self) -> dict[str, str] | None:
        """What `jobs.api.client` looks for a proxy in: nothing for our own emulator on this machine."""
        return {} if self.offline else None


def check_way(target: Target) -> None:
    """Raises BadSetting where the variable that names the proxy to the API has an unusable value."""
    if not target.offline:
        proxy_for(target.base_url, environment())


def target_of(settings: Settings, *, offline: bool = False, asks: bool = True) -> Target:
    """The API of the settings, or the emulator.

    Raises UsageError for an API that is not there any more and, if the command `asks`, for a missing key.
    """
    if offline:
        return Target(settings.api or "assistants", "", SecretStr("offline"), offline=True)
    refuse_the_gone(settings.api_in_use, settings.base_url)
    if asks:
        require_key(settings)
    return Target(
        settings.api_in_use,
        settings.base_url,
        settings.openai_api_key,
        offline=False,
        organization=settings.openai_org_id,
        project=settings.openai_project_id,
    )


def require_key(settings: Settings) -> None:
    """Raises UsageError when the address needs a key and none is set. The emulator never stands in for it."""
    if settings.openai_api_key is None and not is_local(settings.base_url):
        raise UsageError(
            f"OPENAI_API_KEY is not set, and {settings.base_url} needs a key. Set it; or set OPENAI_BASE_URL "
            "to a local server, which needs none; or try it without a model: with --offline, the emulator "
            "answers `askmill run` and `askmill chat`."
        )


def refuse_the_gone(api: Api, base_url: str) -> None:
    """Raises UsageError for the Assistants API at OpenAI's own address, before anything is stored."""
    if api == "assistants" and is_openai(base_url):
        raise UsageError(
            "ASKMILL_API is assistants, but OpenAI switched the Assistants API off on 2026-08-26: "
            f"{base_url} answers 404. Set ASKMILL_API=responses, or OPENAI_BASE_URL to a server that has it."
        )
