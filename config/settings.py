"""The settings that the environment or a `.env` file may contain: validated, immutable, secrets masked.

OPENAI_* are the SDK's names; the others begin with ASKMILL_. An empty value counts as unset. The source of
each setting is recorded, since a `.env` may have come with the folder (jobs/model/api_target.py).
"""

import re
from collections.abc import Mapping
from enum import Enum, StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from platformdirs import user_data_path
from pydantic import AfterValidator, AliasChoices, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from askmill.config.env_file import EnvFile, EnvironmentReference, UnreadableLine
from askmill.config.redis_address import check_redis_url, passwords_of
from askmill.config.text import mask_from_now_on, redact

OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-6-luna"
"""Used unless ASKMILL_MODEL or a profile names a model. gpt-5, gpt-5-mini and gpt-5-nano end on 2026-12-11,
the gpt-4o and gpt-4.1 families on 2027-01-14 (openai-python: types/shared/chat_model.py)."""

CONCURRENCY, CHAT_CONCURRENCY = 200, 8
"""Runs in flight per worker: a server of chat completions often has few slots, and all others queue."""

GOOD_EXAMPLES = {
    "ASKMILL_REDIS_URL": "redis://localhost:6379/0, rediss://host:6380/0, unix:///run/redis.sock or "
    "redis+sentinel://host1:26379,host2:26379/SERVICE/0",
    "ASKMILL_DURABILITY": "process, disk or replica",
    "ASKMILL_API": "assistants, responses or chat",
    "ASKMILL_DATA_DIR": "/home/me/askmill-data",
    "ASKMILL_CONCURRENCY": "200",
    "ASKMILL_DRAIN_S": "60",
    "ASKMILL_BATCH_LIST_S": "60",
    "ASKMILL_REQUESTS_PER_MINUTE": "500",
    "ASKMILL_TOKENS_PER_MINUTE": "200000",
    "ASKMILL_MAX_RUNS": "1000",
    "ASKMILL_RETENTION_DAYS": "30",
    "ASKMILL_METRICS_PORT": "9464",
    "ASKMILL_WEB_TOKEN": "the output of `openssl rand -hex 32`",
    "ASKMILL_LOG_FORMAT": "console or json",
    "ASKMILL_LOG_LEVEL": "info",
    "ASKMILL_PRICES": "prices.toml",
    "OPENAI_BASE_URL": "https://api.openai.com/v1",
}


SECRETS = {"OPENAI_API_KEY", "ASKMILL_REDIS_URL", "ASKMILL_WEB_TOKEN"}
"""Settings whose values are never shown."""


class BadSetting(ValueError):
    """An invalid setting. The message names the variable, the fault and a valid example."""


def _check_redis_url(value: SecretStr) -> SecretStr:
    check_redis_url(value.get_secret_value())
    return value


def _check_header_value(value: SecretStr | str) -> SecretStr | str:
    text = value if isinstance(value, str) else value.get_secret_value()
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", text):
        raise ValueError("must be ASCII text on one line, without leading or trailing spaces")
    return value


def _check_token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]{16,512}", value.get_secret_value()):
        raise ValueError("must be 16 to 512 letters, digits or - . _ ~ + / =")
    return value


def _expand_home(value: Path) -> Path:
    try:
        return value.expanduser()
    except RuntimeError:
        raise ValueError("begins with ~ and a user that does not exist") from None


def _default_data_dir() -> Path:
    try:
        return user_data_path("askmill", appauthor=False)
    except RuntimeError:
        raise BadSetting(
            "There is no home folder for askmill's data: HOME is not set, and this user id has none. Set "
            "ASKMILL_DATA_DIR to a folder that you may write to, such as /tmp/askmill."
        ) from None


SECRET_PARAMETER = re.compile(r"key|token|secret|passw|auth|cred|\bsig|^code$|^sk-", re.IGNORECASE)
"""A query parameter that may contain a secret, such as `api-key` or `sig`."""


def _check_http_url(value: str) -> str:
    """Reject URLs with secrets: the URL is shown, and stored in Redis with batches and workers."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    if "@" in parts.netloc:
        raise ValueError("must hold no user or password; put the key into OPENAI_API_KEY")
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if SECRET_PARAMETER.search(name) or text.startswith("sk-"):
            raise ValueError(f"must hold no secret ({name} in its query); put the key into OPENAI_API_KEY")
    return value


Positive = Annotated[int, Field(gt=0, le=1_000_000_000)]
Key = Annotated[SecretStr, AfterValidator(_check_header_value)]
Id = Annotated[str, AfterValidator(_check_header_value)]
File = Annotated[Path, AfterValidator(_expand_home)]


class SettingSource(Enum):
    """Where a setting comes from. The environment takes precedence over `.env`."""

    DEFAULT = "default"
    ENVIRONMENT = "environment"
    ENV_FILE = ".env"


class Durability(StrEnum):
    """How safe a create's mark must be before the create is sent (docs/explanation/durability.md)."""

    PROCESS = "process"
    """Redis' reply: survives killed processes, and a Redis that loses writes as long as workers live."""
    DISK = "disk"
    """Redis' reply under `appendfsync always`: survives power loss of workers and Redis together."""
    REPLICA = "replica"
    """A replica's acknowledgement: survives the loss of the Redis machine and the workers together."""


class Credentials(NamedTuple):
    """What is sent with every request."""

    key: SecretStr | None = None
    organization: str | None = None
    project: str | None = None


class Settings(BaseSettings):
    """All settings. Units are in the names."""

    model_config = SettingsConfigDict(
        env_prefix="ASKMILL_",
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        frozen=True,
        use_attribute_docstrings=True,
    )

    openai_api_key: Key | None = Field(None, validation_alias=AliasChoices("OPENAI_API_KEY"))
    """API key. A local server needs none; the emulator accepts any text."""
    openai_base_url: Annotated[str, AfterValidator(_check_http_url)] | None = Field(
        None, validation_alias=AliasChoices("OPENAI_BASE_URL")
    )
    """URL of another server than OpenAI's; its query is sent with every request. A local one needs no key."""
    openai_org_id: Id | None = Field(None, validation_alias=AliasChoices("OPENAI_ORG_ID"))
    """Organization to bill."""
    openai_project_id: Id | None = Field(None, validation_alias=AliasChoices("OPENAI_PROJECT_ID"))
    """Project to bill."""
    redis_url: Annotated[SecretStr, AfterValidator(_check_redis_url)] | None = None
    """URL of the Redis that commands and workers share; unset: an embedded Redis for this user."""
    durability: Durability | None = None
    """What a paid run survives: `process`, `disk` or `replica`; unset: `disk` if embedded, else `process`."""
    data_dir: File = Field(default_factory=_default_data_dir)
    """Folder of the embedded Redis and the emulator; unset: the platform's user data folder."""
    api: Literal["assistants", "responses", "chat"] | None = None
    """API to use: `assistants`, `responses` or `chat` (chat completions); unset: `responses` at OpenAI; any
    other server is asked at submit which one it offers."""
    model: str = DEFAULT_MODEL
    """Model if neither a profile nor an option names one."""
    concurrency: Annotated[int, Field(gt=0, le=100_000)] | None = None
    """Maximum runs in flight per worker; unset: 200, with `ASKMILL_API=chat` 8, as local servers have few
    slots."""
    drain_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 60.0
    """Seconds for which a worker of chat completions lets its calls end after SIGTERM."""
    batch_list_s: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 60.0
    """Seconds between two lists of the Batch API's jobs (`--tier batch`)."""
    requests_per_minute: Positive | None = None
    """Maximum requests per minute of all workers together; unset: only the API's own limit."""
    tokens_per_minute: Positive | None = None
    """Maximum tokens per minute of all workers together; unset: only the API's own limit."""
    max_runs: Positive | None = None
    """Maximum runs in flight of all workers together; unset: only the API's own limit."""
    retention_days: Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)] | None = None
    """Days after its end until a batch is deleted; unset: batches stay until `askmill purge`."""
    prices: File | None = None
    """TOML file with prices of models, used before the bundled prices."""
    metrics_port: Annotated[int, Field(gt=0, lt=65536)] | None = None
    """Port for a worker's Prometheus metrics; unset: no metrics."""
    web_token: Annotated[SecretStr, AfterValidator(_check_token)] | None = None
    """Access token of `askmill web`, at least 16 characters; unset: a new one at each start."""
    log_format: Literal["console", "json"] | None = None
    """Log format; unset: `console` on a terminal, else `json`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level to log."""

    _sources: Mapping[str, SettingSource] = PrivateAttr(default_factory=dict)
    _env_file_credentials: Credentials = PrivateAttr(default=Credentials())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 -- pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values that `read` passes: it reads both sources and records them."""
        return (init_settings,)

    @classmethod
    def read(cls) -> Self:
        """Read the environment and `.env`. Raises the errors of pydantic, dotenv and the file system."""
        environment, file = _settings_only(EnvSettingsSource(cls)()), _settings_only(EnvFile(cls)())
        settings = cls(**{**file, **environment})
        settings._sources = {
            **dict.fromkeys(map(str.lower, file), SettingSource.ENV_FILE),
            **dict.fromkeys(map(str.lower, environment), SettingSource.ENVIRONMENT),
        }
        names = ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
        credentials = {name: file[name] for name in names if name in file}
        # The data folder of the settings: its default needs a home folder, which not every user has.
        settings._env_file_credentials = cls(**{"data_dir": settings.data_dir, **credentials}).credentials
        return settings

    def source_of(self, field: str) -> SettingSource:
        """Where the setting comes from. One set in another way counts as `.env`, which is not trusted."""
        return self._sources.get(
            field, SettingSource.ENV_FILE if field in self.model_fields_set else SettingSource.DEFAULT
        )

    @property
    def credentials(self) -> Credentials:
        """The credentials in effect."""
        return Credentials(self.openai_api_key, self.openai_org_id, self.openai_project_id)

    @property
    def credentials_of_env_file(self) -> Credentials:
        """The credentials in `.env` alone, even if the environment overrides them."""
        return self._env_file_credentials

    @property
    def durability_in_use(self) -> Durability:
        """The setting, or its default: the embedded Redis writes to disk before it replies.

        Raises:
            BadSetting: the embedded Redis has no replica.
        """
        if self.durability is Durability.REPLICA and self.redis_url is None:
            raise BadSetting(
                "ASKMILL_DURABILITY=replica needs a Redis with replicas, and the embedded one has none. Set "
                "ASKMILL_REDIS_URL, for example to redis+sentinel://host1:26379,host2:26379/SERVICE/0, or "
                "use ASKMILL_DURABILITY=disk."
            )
        return self.durability or (Durability.DISK if self.redis_url is None else Durability.PROCESS)

    @cached_property
    def base_url(self) -> str:
        """URL of the API, without a trailing slash; OpenAI's unless set."""
        return (self.openai_base_url or OPENAI_URL).rstrip("/")

    @cached_property
    def api_in_use(self) -> Literal["assistants", "responses", "chat"] | None:
        """The API to use; None if the server is to be asked (jobs/submit/find_api.py).

        OpenAI's own server answers 404 to the Assistants API since 2026-08-26.
        """
        return self.api or ("responses" if is_openai(self.base_url) else None)

    @property
    def concurrency_in_use(self) -> int:
        """Maximum runs in flight per worker: the setting, or the API's default."""
        return self.concurrency or (CHAT_CONCURRENCY if self.api_in_use == "chat" else CONCURRENCY)


def secrets_of(settings: Settings) -> set[str]:
    """The API key, the web token and the Redis password, plain and URL-encoded."""
    secrets = {settings.openai_api_key.get_secret_value()} if settings.openai_api_key else set()
    if settings.web_token is not None:
        secrets.add(settings.web_token.get_secret_value())
    if settings.redis_url is not None:
        secrets |= passwords_of(settings.redis_url.get_secret_value())
    return secrets


def is_openai(base_url: str) -> bool:
    r"""Whether the URL is OpenAI's own, regional hosts such as eu.api.openai.com included.

    Only plain host labels count: an HTTP client may read `example.com\\.api.openai.com` as another host.
    """
    return bool(re.fullmatch(r"([a-z0-9-]+\.)*api\.openai\.com", urlsplit(base_url).hostname or ""))


def variable_of(field: str) -> str:
    """The environment variable of a setting."""
    return field.upper() if field.upper().startswith("OPENAI_") else f"ASKMILL_{field.upper()}"


def load_settings() -> Settings:
    """Read the settings from the environment and `.env`, and mask their secrets in all texts from now on.

    Raises BadSetting with one line per fault.
    """
    try:
        settings = Settings.read()
    except ValidationError as invalid:
        raise BadSetting("\n".join(_fault_message(dict(error)) for error in invalid.errors())) from None
    except (EnvironmentReference, UnreadableLine) as error:
        raise BadSetting(str(error)) from None
    except (OSError, UnicodeDecodeError) as unreadable:
        raise BadSetting(f".env in {Path.cwd()} cannot be read: {unreadable}") from None
    mask_from_now_on(secrets_of(settings))
    return settings


def _settings_only(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop variables that are not settings: pydantic would take some of them as its own parameters.

    A source names a field by its alias, if it has one: OPENAI_API_KEY is `openai_api_key`.
    """
    return {name: value for name, value in values.items() if name.lower() in Settings.model_fields}


def _fault_message(error: dict[str, object]) -> str:
    place = error["loc"]
    name = str(place[0]) if isinstance(place, tuple) and place else "a setting"
    variable = variable_of(name)
    fault = str(error["msg"]).removeprefix("Value error, ")
    is_secret = variable in SECRETS or "OPENAI_API_KEY" in fault
    shown = "" if is_secret else f" (it is {redact(str(error['input']))!r})"
    example = GOOD_EXAMPLES.get(variable)
    return f"{variable}{shown}: {fault}." + (f" A good value: {example}." if example else "")
