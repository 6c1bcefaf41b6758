"""Which API a batch is asked at: OpenAI's, a compatible one, or the emulator on this machine.

Every command that sends a key gets it here, so that no other place decides where it may go.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from askmill.config.address import is_local, is_loopback
from askmill.config.proxies import environment, proxy_for
from askmill.config.settings import Credentials, Settings, Source, is_openai
from askmill.config.trust import CREDENTIALS, Use, use_of
from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.models import Api

OFFLINE = "offline:"
"""The emulator's address in a batch's identity, whatever its port is today."""


SOURCES = {
    Source.DEFAULT: "the default",
    Source.ENVIRONMENT: "OPENAI_BASE_URL of the environment",
    Source.ENV_FILE: "OPENAI_BASE_URL in .env of this folder",
}


@dataclass(frozen=True)
class Consent:
    """Whether the person trusts the `.env` of the working folder: `given`, or to be asked."""

    given: bool = False
    ask: Callable[[str], bool] | None = None
    """Asks a yes-or-no question; None without a terminal."""


NO_CONSENT = Consent()


@dataclass(frozen=True)
class Target:
    """`base_url` is empty for an emulator that has not been started yet."""

    api: Api
    base_url: str
    api_key: SecretStr | None
    offline: bool
    organization: str | None = None
    project: str | None = None
    source: Source = Source.DEFAULT
    withheld: tuple[str, ...] = ()
    """Variables of the environment that are not sent to this address."""

    @property
    def asked(self) -> str | None:
        """Which address is asked and where it comes from, in a line; None for the offline emulator."""
        if self.offline:
            return None
        without = f", without {' and '.join(self.withheld)} of the environment" if self.withheld else ""
        return f"Asks {self.base_url} ({SOURCES[self.source]}){without}."

    @property
    def environment(self) -> dict[str, str]:
        """The same decision for a worker, as variables that go before any `.env`.

        What is withheld it does not inherit either: `permitted` has removed it.
        """
        return {
            "ASKMILL_API": self.api,
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": self.key or "",
            **({"OPENAI_ORG_ID": self.organization} if self.organization else {}),
            **({"OPENAI_PROJECT_ID": self.project} if self.project else {}),
        }

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
        if urlsplit(self.base_url).scheme != "http" or is_loopback(self.base_url):
            return None
        return (
            f"Warning: OPENAI_API_KEY is sent to {self.base_url} without encryption. "
            "Use https://, or unset the key if this server needs none."
        )

    @property
    def environ(self) -> dict[str, str] | None:
        """What `jobs.openai_client.client.client` looks for a proxy in: nothing for our own emulator on this machine."""
        return {} if self.offline else None


def check_way(target: Target) -> None:
    """Raises BadSetting where the variable that names the proxy to the API has an unusable value."""
    if not target.offline:
        proxy_for(target.base_url, environment())


def target_of(
    settings: Settings, *, offline: bool = False, asks: bool = True, consent: Consent = NO_CONSENT
) -> Target:
    """The API of the settings, or the emulator.

    Raises UsageError for an API that is not there any more and, if the command `asks`, for a missing key and
    for an address that the environment's key may not go to.
    """
    if offline:
        return Target(settings.api or "assistants", "", SecretStr("offline"), offline=True)
    refuse_the_gone(settings.api_in_use, settings.base_url)
    source = settings.source_of("openai_base_url")
    if not asks:
        return Target(settings.api_in_use, settings.base_url, None, offline=False, source=source)
    require_key(settings)
    credentials, withheld = permitted(settings, consent)
    return Target(
        settings.api_in_use,
        settings.base_url,
        credentials.key,
        offline=False,
        organization=credentials.organization,
        project=credentials.project,
        source=source,
        withheld=withheld,
    )


def permitted(settings: Settings, consent: Consent) -> tuple[Credentials, tuple[str, ...]]:
    """What may be sent to the address of the settings, and the variables of the environment that may not.

    Those are removed from this process' environment, where the SDK, its copies and our child processes would
    find them. Raises UsageError where consent is needed and there is none.
    """
    use = use_of(settings)
    if use is Use.SENT or consent.given:
        return settings.credentials, ()
    if use is Use.NEEDS_CONSENT:
        _need_consent(settings.base_url, consent)
        return settings.credentials, ()
    withheld = tuple(name for name in CREDENTIALS if os.environ.pop(name, ""))
    return settings.credentials_of_env_file, withheld


def _need_consent(base_url: str, consent: Consent) -> None:
    file = Path.cwd() / ".env"
    if consent.ask is None:
        raise UsageError(
            f"OPENAI_API_KEY of the environment is not sent to {base_url}: OPENAI_BASE_URL in {file} names "
            "that address, and the file may have come with the folder. If you trust it, give "
            "--trust-env-file (in Python: trust_env_file=True), or set OPENAI_BASE_URL in the environment."
        )
    if not consent.ask(
        f"OPENAI_BASE_URL in {file} names {base_url}. Send OPENAI_API_KEY of the environment there?"
    ):
        raise UsageError(f"OPENAI_API_KEY was not sent to {base_url}, and nothing was asked.")


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
