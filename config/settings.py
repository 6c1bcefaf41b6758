"""Settings: what the environment or a `.env` file may say, checked once, frozen, secrets masked.

The names of OPENAI_* are the SDK's own; ours begin with ASKMILL_. An empty value counts as unset. Each
setting knows its source, since a `.env` may have come with the folder (config/trust.py).
"""

import re
from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from platformdirs import user_data_path
from pydantic import AfterValidator, AliasChoices, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from askmill.config.env_file import EnvFile, ReadsEnvironment
from askmill.config.text import redact

OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-6-luna"
"""Until ASKMILL_MODEL or a profile says otherwise. gpt-5, gpt-5-mini and gpt-5-nano end on 2026-12-11, the
gpt-4o and gpt-4.1 families on 2027-01-14 (openai-python: types/shared/chat_model.py)."""

GOOD_EXAMPLES = {
    "ASKMILL_REDIS_URL": "redis://localhost:6379/0, rediss://host:6380/0 or unix:///run/redis.sock",
    "ASKMILL_API": "assistants or responses",
    "ASKMILL_DATA_DIR": "/home/me/askmill-data",
    "ASKMILL_CONCURRENCY": "200",
    "ASKMILL_REQUESTS_PER_MINUTE": "500",
    "ASKMILL_TOKENS_PER_MINUTE": "200000",
    "ASKMILL_MAX_RUNS": "1000",
    "ASKMILL_RETENTION_DAYS": "30",
    "ASKMILL_METRICS_PORT": "9464",
    "ASKMILL_LOG_FORMAT": "console or json",
    "ASKMILL_LOG_LEVEL": "info",
    "ASKMILL_PRICES": "prices.toml",
    "OPENAI_BASE_URL": "https://api.openai.com/v1",
}


SECRETS = {"OPENAI_API_KEY", "ASKMILL_REDIS_URL"}
"""Their values are shown to nobody."""


class BadSetting(ValueError):
    """A variable with a value that cannot be used; the text names it, its fault and a good example."""


def _redis_url(value: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(value.get_secret_value())
        port = parts.port
    except ValueError:  # its text quotes the address, and maybe the password
        raise ValueError("is not an address with a number as its port") from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("must begin with redis://, rediss:// or unix://")
    if parts.scheme == "unix":
        if port is not None or not parts.path.strip("/"):
            raise ValueError("must name the path of a socket")
    elif not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path):
        raise ValueError("must end with the number of a database, or with the port")
    return value


def _header(value: SecretStr | str) -> SecretStr | str:
    text = value if isinstance(value, str) else value.get_secret_value()
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", text):
        raise ValueError("must be plain ASCII on one line, without spaces around it")
    return value


def _home(value: Path) -> Path:
    try:
        return value.expanduser()
    except RuntimeError:
        raise ValueError("begins with ~ and the home of nobody known") from None


SECRET_NAME = re.compile(r"key|token|secret|passw|auth|cred|\bsig|^code$|^sk-", re.IGNORECASE)
"""A query's parameter that carries a secret, such as `api-key` or `sig`."""


def _http_url(value: str) -> str:
    """An address that may be shown and stored: batches and workers' cards in Redis have it."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http:// or https:// address")
    if "@" in parts.netloc:
        raise ValueError("must hold no user or password; put the key into OPENAI_API_KEY")
    for name, said in parse_qsl(parts.query, keep_blank_values=True):
        if SECRET_NAME.search(name) or said.startswith("sk-"):
            raise ValueError(f"must hold no secret ({name} in its query); put the key into OPENAI_API_KEY")
    return value


Positive = Annotated[int, Field(gt=0, le=1_000_000_000)]
Key = Annotated[SecretStr, AfterValidator(_header)]
Id = Annotated[str, AfterValidator(_header)]
File = Annotated[Path, AfterValidator(_home)]


class Source(Enum):
    """Where a setting comes from; the environment goes before `.env`."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    ENV_FILE = ".env"


class Credentials(NamedTuple):
    """What goes along with every request."""

    key: SecretStr | None = None
    organization: str | None = None
    project: str | None = None


class Settings(BaseSettings):
    """Everything a user can set outside a command's options. Units are in the names."""

    model_config = SettingsConfigDict(
        env_prefix="ASKMILL_",
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        frozen=True,
        use_attribute_docstrings=True,
    )

    openai_api_key: Key | None = Field(None, validation_alias=AliasChoices("OPENAI_API_KEY"))
    """The key, as the SDK reads it. A local address needs none; the emulator takes any text."""
    openai_base_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        None, validation_alias=AliasChoices("OPENAI_BASE_URL")
    )
    """Another server than OpenAI's; a query in it goes along with every request. A local one needs no key."""
    openai_org_id: Id | None = Field(None, validation_alias=AliasChoices("OPENAI_ORG_ID"))
    """The organization that is billed."""
    openai_project_id: Id | None = Field(None, validation_alias=AliasChoices("OPENAI_PROJECT_ID"))
    """The project that is billed."""
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = None
    """The Redis that terminals and workers share; unset: an embedded one of this user."""
    data_dir: File = Field(default_factory=lambda: user_data_path("askmill", appauthor=False))
    """Where the embedded Redis and the emulator keep their state; unset: the platform's user data folder."""
    api: Literal["assistants", "responses"] | None = None
    """Which API to speak; unset: `responses` at OpenAI's own address, `assistants` at any other."""
    model: str = DEFAULT_MODEL
    """The model when neither a profile nor an option names one."""
    concurrency: Annotated[int, Field(gt=0, le=100_000)] = 200
    """Runs in flight a worker."""
    requests_per_minute: Positive | None = None
    """Of all workers together; unset: none but what the API says."""
    tokens_per_minute: Positive | None = None
    """Of all workers together; unset: none but what the API says."""
    max_runs: Positive | None = None
    """Runs in flight of all workers together; unset: none but what the API says."""
    retention_days: Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)] | None = None
    """Delete a batch so long after its end; unset: `askmill purge` does."""
    prices: File | None = None
    """A TOML file with prices of models that are not known."""
    metrics_port: Annotated[int, Field(gt=0, lt=65536)] | None = None
    """Where a worker serves Prometheus metrics; unset: nowhere."""
    log_format: Literal["console", "json"] | None = None
    """How logs look; unset: `console` on a terminal, else `json`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""

    _sources: Mapping[str, Source] = PrivateAttr(default_factory=dict)
    _of_env_file: Credentials = PrivateAttr(default=Credentials())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 -- pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `read` gives: it reads environment and file once, and keeps which was which."""
        return (init_settings,)

    @classmethod
    def read(cls) -> Self:
        """From the environment and `.env`. Raises what pydantic, dotenv and the file system raise."""
        environment, file = _known(EnvSettingsSource(cls)()), _known(EnvFile(cls)())
        settings = cls(**{**file, **environment})
        settings._sources = {
            **dict.fromkeys(map(str.lower, file), Source.ENV_FILE),
            **dict.fromkeys(map(str.lower, environment), Source.ENVIRONMENT),
        }
        named = ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
        settings._of_env_file = cls(**{name: file[name] for name in named if name in file}).credentials
        return settings

    def source_of(self, field: str) -> Source:
        """Where the setting comes from. One that was set by neither way counts as read from `.env`."""
        return self._sources.get(field, Source.ENV_FILE if field in self.model_fields_set else Source.DEFAULT)

    @property
    def credentials(self) -> Credentials:
        """As the settings are."""
        return Credentials(self.openai_api_key, self.openai_org_id, self.openai_project_id)

    @property
    def credentials_of_env_file(self) -> Credentials:
        """Only what stands in `.env`, whether or not the environment has another."""
        return self._of_env_file

    @cached_property
    def base_url(self) -> str:
        """The API's address, OpenAI's own unless set; without a trailing slash."""
        return (self.openai_base_url or OPENAI_URL).rstrip("/")

    @cached_property
    def api_in_use(self) -> Literal["assistants", "responses"]:
        """`responses` at OpenAI's own address, where the Assistants API answers 404 since 2026-08-26."""
        return self.api or ("responses" if is_openai(self.base_url) else "assistants")


def secrets_of(settings: Settings) -> set[str]:
    """The key and Redis' password, as they are and as they stand in an address."""
    told = {settings.openai_api_key.get_secret_value()} if settings.openai_api_key else set()
    if settings.redis_url is not None:
        address = urlsplit(settings.redis_url.get_secret_value())
        asked = dict(parse_qsl(address.query))
        for password in (address.password, asked.get("password")):
            told |= {password, unquote(password)} if password else set()
    return told


def is_openai(base_url: str) -> bool:
    r"""Whether this is OpenAI's own address (regional hosts such as eu.api.openai.com included).

    By plain labels only: `example.com\\.api.openai.com` may be another host to whoever connects.
    """
    return bool(re.fullmatch(r"([a-z0-9-]+\.)*api\.openai\.com", urlsplit(base_url).hostname or ""))


def variable_of(field: str) -> str:
    """The environment's name of a setting: the SDK's own, or ours."""
    return field.upper() if field.upper().startswith("OPENAI_") else f"ASKMILL_{field.upper()}"


def load_settings() -> Settings:
    """Read the environment and `.env`. Raises BadSetting with one sentence a fault."""
    try:
        return Settings.read()
    except ValidationError as invalid:
        raise BadSetting("\n".join(_sentence(dict(error)) for error in invalid.errors())) from None
    except ReadsEnvironment as refused:
        raise BadSetting(str(refused)) from None
    except (OSError, UnicodeDecodeError) as unreadable:
        raise BadSetting(f".env in {Path.cwd()} cannot be read: {unreadable}") from None


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without a file's other variables, some of which pydantic would take as parameters of its own.

    A source names a field by its alias, where it has one: OPENAI_API_KEY is `openai_api_key`.
    """
    return {name: value for name, value in values.items() if name.lower() in Settings.model_fields}


def _sentence(error: dict[str, object]) -> str:
    place = error["loc"]
    name = str(place[0]) if isinstance(place, tuple) and place else "a setting"
    variable = variable_of(name)
    fault = str(error["msg"]).removeprefix("Value error, ")
    hidden = variable in SECRETS or "OPENAI_API_KEY" in fault
    shown = "" if hidden else f" (it is {redact(str(error['input']))!r})"
    good = GOOD_EXAMPLES.get(variable)
    return f"{variable}{shown}: {fault}." + (f" A good value: {good}." if good else "")
