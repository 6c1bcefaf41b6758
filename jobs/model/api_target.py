"""Chooses the API server (OpenAI's, a compatible one, the emulator) and the credentials that it may receive.

Every command gets its key here: no other module decides where a key may be sent. A `.env` may have come with
the folder, for example with a cloned repository. So the environment's credentials are not sent to an address
that `.env` names, unless the user agrees:

address from          key from        server                  the environment's credentials
default, environment  any             any                     sent
.env                  any             OpenAI's own, https     sent
.env                  environment     loopback                withheld
.env                  environment     any other               withheld, unless the user agrees
.env                  .env, nowhere   any                     withheld; the key of `.env` is sent

Redis holds the batches that a key pays for. So a key of the environment does not work for a Redis, or for the
data of an embedded one, that `.env` names, unless the user agrees. A key in the same `.env` does.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from askmill.config.local_address import is_local, is_loopback
from askmill.config.proxies import proxy_environment, proxy_for
from askmill.config.redis_address import shown_address
from askmill.config.settings import Credentials, Settings, SettingSource, is_openai, variable_of
from askmill.config.tls import check_certificates, uses_tls
from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.models import Api, Server

OFFLINE = "offline:"
"""The emulator's address in a batch's identity, independent of its port."""
CREDENTIAL_VARIABLES = ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS")
"""The environment's credentials for an API; the SDK reads the last three by itself."""

SOURCE_DESCRIPTIONS = {
    SettingSource.DEFAULT: "the default",
    SettingSource.ENVIRONMENT: "OPENAI_BASE_URL of the environment",
    SettingSource.ENV_FILE: "OPENAI_BASE_URL in .env of this folder",
}


class CredentialUse(Enum):
    """What happens to the environment's credentials."""

    SENT = "sent"
    WITHHELD = "withheld"
    NEEDS_CONSENT = "needs consent"


@dataclass(frozen=True)
class Consent:
    """Whether the user trusts the `.env` of the working folder: given already, or to be asked for."""

    granted: bool = False
    confirm: Callable[[str], bool] | None = None
    """Asks the user a yes-or-no question; None without a terminal."""


NO_CONSENT = Consent()


@dataclass(frozen=True)
class Target:
    """An API server and the credentials for it. `base_url` is empty until the emulator is started.

    `api` is None where the server is to be asked which one it offers (jobs/submit/find_api.py).
    """

    api: Api | None
    base_url: str
    api_key: SecretStr | None
    offline: bool
    organization: str | None = None
    project: str | None = None
    source: SettingSource = SettingSource.DEFAULT
    withheld: tuple[str, ...] = ()
    """Environment variables that are not sent to this server."""

    @property
    def source_line(self) -> str | None:
        """One line that names the server and the source of its address; None for the offline emulator."""
        if self.offline:
            return None
        without = f", without {' and '.join(self.withheld)} of the environment" if self.withheld else ""
        return f"Asks {self.base_url} ({SOURCE_DESCRIPTIONS[self.source]}){without}."

    @property
    def worker_environment(self) -> dict[str, str]:
        """The environment variables with which a worker makes the same choice; they override `.env`.

        A worker does not inherit what is withheld: `permitted_credentials` removed it from the environment.
        """
        return {
            "ASKMILL_API": self.api or "",
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": self.key or "",
            **({"OPENAI_ORG_ID": self.organization} if self.organization else {}),
            **({"OPENAI_PROJECT_ID": self.project} if self.project else {}),
        }

    @property
    def address(self) -> str:
        """The address in a batch's identity."""
        return OFFLINE if self.offline else self.base_url

    @property
    def server(self) -> Server:
        """The API and account of its batches; the emulator bills no account."""
        return Server(self.api or "", self.base_url, self.organization or "", self.project or "")

    @property
    def known_api(self) -> Api:
        """The API, where it has been found out."""
        assert self.api is not None
        return self.api

    @property
    def key(self) -> str | None:
        """The key to send; None for a local server without a key: no Authorization header is sent."""
        return None if self.api_key is None else self.api_key.get_secret_value()

    @property
    def unencrypted_key_warning(self) -> str | None:
        """A warning if the key would be sent over a network without encryption; else None."""
        if self.offline or self.api_key is None:
            return None
        if urlsplit(self.base_url).scheme != "http" or is_loopback(self.base_url):
            return None
        return (
            f"Warning: OPENAI_API_KEY is sent to {self.base_url} without encryption. "
            "Use https://, or unset the key if this server needs none."
        )

    @property
    def proxy_environ(self) -> dict[str, str] | None:
        """The environment for `make_client` to find a proxy in: empty for the emulator on this machine."""
        return {} if self.offline else None


def check_connection_settings(target: Target) -> None:
    """Raises BadSetting if a variable names an invalid proxy to the API, or certificates that are missing."""
    if target.offline:
        return
    if uses_tls(target.base_url, proxy_for(target.base_url, proxy_environment())):
        check_certificates()


def api_target(
    settings: Settings, *, offline: bool = False, needs_key: bool = True, consent: Consent = NO_CONSENT
) -> Target:
    """The API of the settings, or the emulator.

    Args:
        settings: the settings in effect.
        offline: use the emulator.
        needs_key: whether the command sends requests to the API and so needs credentials.
        consent: whether the user trusts `.env`.

    Raises:
        UsageError: the API is retired; or, if `needs_key`, the key is missing or may not go to the address.
    """
    if offline:
        return Target(settings.api or "assistants", "", SecretStr("offline"), offline=True)
    refuse_retired_api(settings.api_in_use, settings.base_url)
    source = settings.source_of("openai_base_url")
    if not needs_key:
        return Target(settings.api_in_use, settings.base_url, None, offline=False, source=source)
    require_key(settings)
    credentials, withheld = permitted_credentials(settings, consent)
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


def permitted_credentials(settings: Settings, consent: Consent) -> tuple[Credentials, tuple[str, ...]]:
    """The credentials to send to the server of the settings, and the environment variables to withhold.

    Withheld variables are removed from this process's environment, where the SDK and child processes would
    read them. Raises UsageError if consent is needed and not given.
    """
    key_source = settings.source_of("openai_api_key")
    use = decide_credential_use(settings.base_url, settings.source_of("openai_base_url"), key_source)
    if consent.granted:
        return settings.credentials, ()
    if use is not CredentialUse.WITHHELD:
        if use is CredentialUse.NEEDS_CONSENT:
            _require_consent(settings.base_url, consent)
        if key_source is SettingSource.ENVIRONMENT and (field := storage_of_env_file(settings)) is not None:
            _require_storage_consent(settings, field, consent)
        return settings.credentials, ()
    withheld = tuple(name for name in CREDENTIAL_VARIABLES if os.environ.pop(name, ""))
    return settings.credentials_of_env_file, withheld


def decide_credential_use(
    base_url: str, address_source: SettingSource, key_source: SettingSource
) -> CredentialUse:
    """Apply the table above. A key that is not set has the source `DEFAULT`."""
    is_openai_over_https = is_openai(base_url) and urlsplit(base_url).scheme == "https"
    if address_source is not SettingSource.ENV_FILE or is_openai_over_https:
        return CredentialUse.SENT
    if key_source is SettingSource.ENVIRONMENT and not is_loopback(base_url):
        return CredentialUse.NEEDS_CONSENT
    return CredentialUse.WITHHELD


def _require_consent(base_url: str, consent: Consent) -> None:
    file = Path.cwd() / ".env"
    if consent.confirm is None:
        raise UsageError(
            f"OPENAI_API_KEY of the environment is not sent to {base_url}: OPENAI_BASE_URL in {file} names "
            "that address, and the file may have come with the folder. If you trust it, give "
            "--trust-env-file (in Python: trust_env_file=True), or set OPENAI_BASE_URL in the environment."
        )
    if not consent.confirm(
        f"OPENAI_BASE_URL in {file} names {base_url}. Send OPENAI_API_KEY of the environment there?"
    ):
        raise UsageError(f"OPENAI_API_KEY was not sent to {base_url}, and nothing was asked.")


def storage_of_env_file(settings: Settings) -> str | None:
    """The setting in `.env` that decides in which Redis the batches are; None if the environment decides."""
    field = "redis_url" if settings.redis_url is not None else "data_dir"
    return field if settings.source_of(field) is SettingSource.ENV_FILE else None


def storage_environment(settings: Settings) -> dict[str, str]:
    """The environment variable with which a worker uses the same Redis, whatever `.env` names by then."""
    match storage_of_env_file(settings):
        case "redis_url" if settings.redis_url is not None:
            return {variable_of("redis_url"): settings.redis_url.get_secret_value()}
        case "data_dir":
            return {variable_of("data_dir"): str(settings.data_dir)}
        case _:
            return {}


def _require_storage_consent(settings: Settings, field: str, consent: Consent) -> None:
    """Raises UsageError unless the user agrees that the environment's key pays for that Redis' batches."""
    variable, file = variable_of(field), Path.cwd() / ".env"
    place = f"the data folder {settings.data_dir}"
    if field == "redis_url" and settings.redis_url is not None:
        place = f"the Redis at {shown_address(settings.redis_url.get_secret_value())}"
    if consent.confirm is None:
        raise UsageError(
            f"OPENAI_API_KEY of the environment is not used for {place}: {variable} in {file} names it, "
            "the file may have come with the folder, and the key would pay for the batches there. If you "
            f"trust it, give --trust-env-file (in Python: trust_env_file=True), set {variable} in the "
            "environment, or put the key into the same file."
        )
    if not consent.confirm(
        f"{variable} in {file} names {place}. Use OPENAI_API_KEY of the environment for the batches there?"
    ):
        raise UsageError(f"{variable} in {file} is not trusted, and nothing was asked.")


def has_needed_key(settings: Settings) -> bool:
    """Whether a key is set, or the server is local and needs none."""
    return settings.openai_api_key is not None or is_local(settings.base_url)


def require_key(settings: Settings) -> None:
    """Raises UsageError if the server needs a key and none is set. The emulator never replaces the server."""
    if not has_needed_key(settings):
        raise UsageError(
            f"OPENAI_API_KEY is not set, and {settings.base_url} needs a key. Set it; or set OPENAI_BASE_URL "
            "to a local server, which needs none; or try it without a model: with --offline, the emulator "
            "answers `askmill run` and `askmill chat`."
        )


def refuse_retired_api(api: Api | None, base_url: str) -> None:
    """Raises UsageError for the Assistants API at OpenAI's own address, which no longer offers it."""
    if api == "assistants" and is_openai(base_url):
        raise UsageError(
            "ASKMILL_API is assistants, but OpenAI switched the Assistants API off on 2026-08-26: "
            f"{base_url} answers 404. Set ASKMILL_API=responses, or OPENAI_BASE_URL to a server that has it."
        )
