"""Which credentials may be sent where (case D9): decision table, sources of settings, the only module that decides."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from askmill.config.settings import BadSetting, Settings, SettingSource, load_settings
from askmill.jobs.model.api_target import (
    CREDENTIAL_VARIABLES,
    Consent,
    CredentialUse,
    Target,
    api_target,
    decide_credential_use,
    storage_environment,
)
from askmill.jobs.model.errors import UsageError

ROOT = Path(__file__).parents[2]
REMOTE, LOCAL, LOOPBACK = "https://planted.example/v1", "http://10.0.0.1/v1", "http://127.0.0.1:8000/v1"
OPENAI = "https://api.openai.com/v1"
IN_FILE = "OPENAI_BASE_URL in .env of this folder"
NOT_SET, ENVIRONMENT, FILE = SettingSource.DEFAULT, SettingSource.ENVIRONMENT, SettingSource.ENV_FILE
SENT, WITHHELD, NEEDS_CONSENT = CredentialUse.SENT, CredentialUse.WITHHELD, CredentialUse.NEEDS_CONSENT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith(("ASKMILL_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    return tmp_path


def write_env_file(folder: Path, *lines: str) -> None:
    (folder / ".env").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("base_url", "address", "key", "use"),
    [
        (OPENAI, NOT_SET, NOT_SET, SENT),
        (OPENAI, NOT_SET, ENVIRONMENT, SENT),
        (OPENAI, NOT_SET, FILE, SENT),
        *[(url, ENVIRONMENT, key, SENT) for url in (REMOTE, LOCAL, LOOPBACK) for key in SettingSource],
        *[(url, FILE, key, SENT) for url in (OPENAI, "https://eu.api.openai.com/v1") for key in SettingSource],
        *[(url, FILE, ENVIRONMENT, NEEDS_CONSENT) for url in (
            REMOTE, LOCAL, "http://ollama:11434/v1", "http://gpu.local/v1", "http://0.0.0.0:8000/v1",
            # Not OpenAI's, or not safely so.
            "http://api.openai.com/v1", "https://api.openai.com.planted.example/v1",
            "https://planted.example\\.api.openai.com/v1", "https://planted.example%2f.api.openai.com/v1",
            "https://planted.example/api.openai.com", "https://planted.example#.api.openai.com",
            "https://notapi.openai.com/v1", "https://planted.example\u3002api.openai.com/v1",
            # Not loopback, or not beyond doubt.
            "http://127.0.0.1.planted.example/v1", "http://localhost.planted.example/v1", "http://2130706433/v1",
            "http://127.1/v1", "http://0x7f.1/v1",
        )],
        *[(url, FILE, ENVIRONMENT, WITHHELD) for url in (LOOPBACK, "http://localhost/v1", "http://[::1]:1/v1")],
        *[(url, FILE, key, WITHHELD) for url in (REMOTE, LOCAL, LOOPBACK) for key in (NOT_SET, FILE)],
    ],
)  # fmt: skip
def test_whether_the_environments_credentials_go_along(
    base_url: str, address: SettingSource, key: SettingSource, use: CredentialUse
) -> None:
    """Not to an address from `.env` other than OpenAI's; beyond loopback, sending a key needs consent."""
    assert decide_credential_use(base_url, address, key) is use


def test_the_source_of_each_setting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment overrides `.env`; an empty value counts as unset; names may be in any case."""
    write_env_file(
        folder, f"openai_base_url={REMOTE}", "OPENAI_API_KEY=k-file", "ASKMILL_MODEL=m", "SOMEBODY_ELSES=1"
    )
    monkeypatch.setenv("openai_api_key", "k-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "")

    settings = load_settings()

    sources = {
        name: settings.source_of(name) for name in ("openai_api_key", "openai_base_url", "model", "api")
    }
    assert sources == {
        "openai_api_key": ENVIRONMENT,
        "openai_base_url": FILE,
        "model": FILE,
        "api": NOT_SET,
    }
    assert settings.credentials.key == SecretStr("k-environment")
    assert settings.credentials_of_env_file.key == SecretStr("k-file")


def test_settings_of_unknown_source_are_not_trusted() -> None:
    """A setting from neither source counts as one of `.env`."""
    settings = Settings(OPENAI_BASE_URL=REMOTE)  # type: ignore[call-arg]

    assert settings.source_of("openai_base_url") is FILE


@pytest.mark.parametrize("link", [False, True], ids=["a file", "a link to a file elsewhere"])
def test_without_a_terminal_the_refusal_names_file_address_and_option(
    folder: Path, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    """The message says what to do and does not contain the key."""
    write_env_file(folder, f"OPENAI_BASE_URL={REMOTE}")
    if link:
        (folder / ".env").rename(folder / "elsewhere")
        (folder / ".env").symlink_to("elsewhere")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment-0123456789")

    with pytest.raises(UsageError) as error:
        api_target(load_settings())

    for part in (f"{folder}/.env", REMOTE, "--trust-env-file", "trust_env_file=True", "OPENAI_BASE_URL"):
        assert part in str(error.value)
    assert "sk-environment" not in str(error.value)


def test_the_user_is_asked_for_consent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Yes sends all credentials; no is an error. No question without a risk or with the option."""
    write_env_file(folder, f"OPENAI_BASE_URL={REMOTE}")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    questions = list[str]()

    def target(answer: bool, given: bool = False) -> Target:
        def ask(question: str) -> bool:
            questions.append(question)
            return answer

        return api_target(load_settings(), consent=Consent(given, ask))

    assert target(answer=True).organization == "org-1"
    assert f"{folder}/.env names {REMOTE}" in questions[0]
    with pytest.raises(UsageError, match="was not sent"):
        target(answer=False)
    assert target(answer=False, given=True).key == "k"
    write_env_file(folder, "OPENAI_BASE_URL=" + LOOPBACK)
    assert target(answer=False).key is None
    assert len(questions) == 2


def test_withheld_variables_are_removed_from_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK and child processes read the environment, so withheld variables must not be in it."""
    write_env_file(folder, f"OPENAI_BASE_URL={LOOPBACK}", "OPENAI_API_KEY=k-file")
    for name in CREDENTIAL_VARIABLES:
        monkeypatch.setenv(name, "of-the-environment")

    target = api_target(load_settings())

    assert not set(CREDENTIAL_VARIABLES) & set(os.environ)
    assert (target.key, target.organization, target.project) == ("k-file", None, None)
    assert target.withheld == CREDENTIAL_VARIABLES
    assert "of-the-environment" not in str(target.worker_environment)
    again = api_target(load_settings())
    assert (again.key, again.organization, again.project) == ("k-file", None, None)


@pytest.mark.parametrize(
    ("lines", "environment", "source_line"),
    [
        ((), {}, f"Asks {OPENAI} (the default)."),
        ((), {"OPENAI_BASE_URL": REMOTE}, f"Asks {REMOTE} (OPENAI_BASE_URL of the environment)."),
        (
            (f"OPENAI_BASE_URL={REMOTE}/", "OPENAI_API_KEY=k"),
            {"OPENAI_API_KEY": ""},
            f"Asks {REMOTE} ({IN_FILE}).",
        ),
        (
            (f"OPENAI_BASE_URL={LOOPBACK}",),
            {},
            f"Asks {LOOPBACK} ({IN_FILE}), without OPENAI_API_KEY of the environment.",
        ),
    ],
)
def test_the_address_is_named_with_its_source(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: tuple[str, ...],
    environment: dict[str, str],
    source_line: str,
) -> None:
    """One line names the address and where it comes from."""
    write_env_file(folder, *lines)
    for name, value in {"OPENAI_API_KEY": "k", **environment}.items():
        monkeypatch.setenv(name, value)

    assert api_target(load_settings()).source_line == source_line


REFERENCES = [
    "OPENAI_BASE_URL=https://planted.example/${CLOUD_SECRET}/v1",
    "OPENAI_API_KEY=${CLOUD_SECRET}",
    'OPENAI_API_KEY="k-${CLOUD_SECRET:-none}"',
    "openai_org_id=${CLOUD_SECRET}",
    "ASKMILL_REDIS_URL=redis://:${CLOUD_SECRET}@planted.example/0",
    "ASKMILL_MODEL=${CLOUD_SECRET}",
    "BETWEEN=${CLOUD_SECRET}\nASKMILL_MODEL=m-${BETWEEN}",
]


@pytest.mark.parametrize("lines", REFERENCES)
def test_an_env_file_cannot_read_secrets_of_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    """`${NAME}` could send any secret to any address: the message names the variable, not the value."""
    write_env_file(folder, lines)
    monkeypatch.setenv("CLOUD_SECRET", "hush-hush")

    with pytest.raises(BadSetting) as error:
        load_settings()

    assert "refers to CLOUD_SECRET of the environment" in str(error.value)
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    "lines", ['OPENAI_API_KEY="sk-half', "ASKMILL_MODEL = 'x\nFOO=1", 'FOO=1\nASKMILL_MODEL="y']
)
def test_a_line_that_cannot_be_read_is_named(folder: Path, lines: str) -> None:
    """A setting that would be ignored without a word; the message has the line's number, not its text."""
    write_env_file(folder, lines)

    with pytest.raises(BadSetting, match=r"\.env in .*: line [12] cannot be read") as error:
        load_settings()

    assert "half" not in str(error.value)


def test_foreign_lines_that_cannot_be_read_are_ignored(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file may belong to another program, which reads it in another way."""
    write_env_file(folder, "export FOO BAR 'x\n")

    load_settings()

    assert caplog.text == ""


def test_harmless_references_are_allowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the file's own lines, to unset variables, in paths, in foreign lines, in lines without effect."""
    write_env_file(
        folder,
        "MODEL=m",
        "ASKMILL_MODEL=${MODEL}-1",
        "OPENAI_ORG_ID=${NOWHERE:-org-1}",
        "ASKMILL_DATA_DIR=${HOME}/stack",
        "OTHER=${CLOUD_SECRET}",
        "OPENAI_API_KEY=${OPENAI_API_KEY}",
        "OPENAI_PROJECT_ID='${CLOUD_SECRET}'",
    )
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("CLOUD_SECRET", "hush-hush")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "p")

    settings = load_settings()

    assert (settings.model, settings.openai_org_id, settings.data_dir) == ("m-1", "org-1", folder / "stack")
    assert settings.credentials.key == SecretStr("k")


def test_an_unreadable_env_file_is_an_error(folder: Path) -> None:
    """It is not ignored, since it may contain settings."""
    (folder / ".env").write_bytes(b"OPENAI_API_KEY=\xff\n")

    with pytest.raises(BadSetting, match=r"\.env in .* cannot be read"):
        load_settings()


def test_a_file_cannot_set_parameters_of_the_settings_class(folder: Path) -> None:
    """pydantic takes `_env_file` and others as keywords of its own."""
    write_env_file(folder, "_env_file=other", "_cli_parse_args=true", "_secrets_dir=/", "ASKMILL_MODEL=m")

    assert load_settings().model == "m"


def test_one_module_decides() -> None:
    """A module that read the key directly would bypass the decision."""
    names = ("openai_api_key", "openai_org_id", "openai_project_id", ".credentials")
    reading = {
        str(path.relative_to(ROOT))
        for package in ("askmill", "config", "jobs", "web", "worker")
        for path in (ROOT / package).rglob("*.py")
        if any(name in path.read_text(encoding="utf-8") for name in names)
    }

    # jobs/submit/cleanup.py asks whether there is a key.
    assert reading == {
        "config/settings.py",
        "jobs/submit/cleanup.py",
        "jobs/model/api_target.py",
    }


PLANTED_REDIS = "redis://me:redis-password@planted.example:6380/0"


@pytest.mark.parametrize(
    ("line", "variable", "place"),
    [
        (f"ASKMILL_REDIS_URL={PLANTED_REDIS}", "ASKMILL_REDIS_URL", "the Redis at redis://planted.example"),
        ("ASKMILL_REDIS_URL=redis://localhost", "ASKMILL_REDIS_URL", "the Redis at redis://localhost"),
        ("ASKMILL_REDIS_URL=unix:///tmp/r.sock", "ASKMILL_REDIS_URL", "the Redis at unix:///tmp/r.sock"),
        ("ASKMILL_DATA_DIR=/tmp/planted", "ASKMILL_DATA_DIR", "the data folder /tmp/planted"),
    ],
)
def test_d10_a_key_of_the_environment_is_not_used_for_a_redis_of_a_planted_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, variable: str, place: str
) -> None:
    """The refusal names variable, file, place and what to do; the option, a yes, or the same source go on."""
    write_env_file(folder, line)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment-0123456789")
    questions = list[str]()

    def ask(question: str) -> bool:
        questions.append(question)
        return len(questions) > 1

    with pytest.raises(UsageError) as error:
        api_target(load_settings())
    for part in (variable, f"{folder}/.env", place, "--trust-env-file", "trust_env_file=True"):
        assert part in str(error.value)
    for secret in ("redis-password", "sk-environment"):
        assert secret not in str(error.value)
    with pytest.raises(UsageError, match="not trusted"):
        api_target(load_settings(), consent=Consent(confirm=ask))
    assert api_target(load_settings(), consent=Consent(confirm=ask)).key
    assert all(place in question for question in questions)
    assert api_target(load_settings(), consent=Consent(granted=True)).key
    assert api_target(load_settings(), needs_key=False).key is None
    monkeypatch.setenv(variable, "/tmp/mine" if variable.endswith("DIR") else "redis://mine")
    assert api_target(load_settings()).key


@pytest.mark.parametrize("key", ["OPENAI_API_KEY=k-file", f"OPENAI_BASE_URL={LOOPBACK}"])
def test_d10_a_file_that_holds_everything_is_one_source(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """The key in the same file, or none needed: nothing of the environment is at stake; workers get the same Redis."""
    write_env_file(folder, f"ASKMILL_REDIS_URL={PLANTED_REDIS}", key)
    settings = load_settings()
    assert api_target(settings)
    assert storage_environment(settings) == {"ASKMILL_REDIS_URL": PLANTED_REDIS}
    monkeypatch.setenv("ASKMILL_REDIS_URL", "redis://mine")
    assert storage_environment(load_settings()) == {}
