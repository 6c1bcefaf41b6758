"""Which API a batch is asked at: OpenAI's, a compatible one, or the emulator on this machine."""

from dataclasses import dataclass

from pydantic import SecretStr

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

    def need_key(self) -> str:
        """The key. Raises UsageError that says what to set."""
        if self.api_key is None:
            raise UsageError(
                f"OPENAI_API_KEY is not set, and {self.base_url} wants one. Set it (any text, if the server "
                "takes any), or give --offline to let the emulator answer."
            )
        return self.api_key.get_secret_value()


def target_of(settings: Settings, *, offline: bool = False) -> Target:
    """The API of the settings, or the emulator. Raises UsageError for an API that is not there any more."""
    if offline:
        return Target(settings.api or "assistants", "", SecretStr("offline"), offline=True)
    refuse_the_gone(settings.api_in_use, settings.base_url)
    return Target(
        settings.api_in_use,
        settings.base_url,
        settings.openai_api_key,
        offline=False,
        organization=settings.openai_org_id,
        project=settings.openai_project_id,
    )


def refuse_the_gone(api: Api, base_url: str) -> None:
    """Raises UsageError for the Assistants API at OpenAI's own address, before anything is stored."""
    if api == "assistants" and is_openai(base_url):
        raise UsageError(
            "ASKMILL_API is assistants, but OpenAI switched the Assistants API off on 2026-08-26: "
            f"{base_url} answers 404. Set ASKMILL_API=responses, or OPENAI_BASE_URL to a server that has it."
        )
