"""Settings: messages for invalid values, from the environment and `.env`, without secrets."""

import pwd
from pathlib import Path

import pytest
from click.testing import CliRunner

from askmill.config.misspelt import misspelt_settings
from askmill.config.settings import GOOD_EXAMPLES, BadSetting, Settings, load_settings, variable_of
from askmill.jobs.cli.root import askmill


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without a `.env`, and an empty home folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


BAD = [
    *[("ASKMILL_REDIS_URL", url) for url in (
        "redis://localhost:notaport", "redis://localhost:99999", "redis://localhost:6379/abc",
        "redis://localhost/-1", "redis://[::1", "unix://", "http://localhost", "   ",
    )],
    *[(f"ASKMILL_{name}", number) for name in (
        "CONCURRENCY", "REQUESTS_PER_MINUTE", "TOKENS_PER_MINUTE", "MAX_RUNS", "METRICS_PORT"
    ) for number in ("0", "-1", "1.5", "nan", "inf", "abc", "  ", "9" * 30, "9" * 5000)],
    *[("ASKMILL_RETENTION_DAYS", number) for number in ("inf", "-inf", "nan", "0", "-3", "1e300", "abc", "  ")],
    ("ASKMILL_DATA_DIR", "~nobody-lives-here/askmill"),
    ("ASKMILL_PRICES", "~nobody-lives-here/prices.toml"),
    ("ASKMILL_API", "batch"),
    ("ASKMILL_LOG_FORMAT", "xml"),
    ("ASKMILL_LOG_LEVEL", "loud"),
]  # fmt: skip


@pytest.mark.parametrize(("variable", "value"), BAD)
def test_an_invalid_value_is_reported_with_an_example(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The message has the variable, the fault and a valid example."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(BadSetting) as bad:
        load_settings()

    assert str(bad.value).startswith(variable)
    assert GOOD_EXAMPLES[variable] in str(bad.value)


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"])
@pytest.mark.parametrize("value", ["sk-0123456789 ", "line\nbreak", "ключ-0123456789", " "])
def test_values_that_no_header_can_carry_are_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Such as a key that was pasted with a space or a line break."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(BadSetting, match=variable):
        load_settings()


def test_each_setting_has_a_description_and_an_example() -> None:
    """Both are on the page of settings; a message has the example. Names of the user's account and models have none."""
    without_example = {"OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "ASKMILL_MODEL"}
    variables = {variable_of(name) for name in Settings.model_fields}

    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    assert variables - without_example == set(GOOD_EXAMPLES)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("ASKMILL_MODLE", "ASKMILL_MODEL"),
        ("askmill_concurency", "ASKMILL_CONCURRENCY"),
        ("ASKMILL_REDIS", "ASKMILL_REDIS_URL"),
        ("ASKMILL_MAX_RUN", "ASKMILL_MAX_RUNS"),
        ("ASKMILL_API_KEY", "OPENAI_API_KEY"),
        ("ASKMILL_BASE_URL", "OPENAI_BASE_URL"),
    ],
)
def test_a_misspelt_setting_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, setting: str
) -> None:
    """Nothing reads it, so nothing else would say that it has no effect: in the environment and in `.env`."""
    monkeypatch.setenv(name, "x")
    assert misspelt_settings() == [f"{name} is no setting; did you mean {setting}?"]

    monkeypatch.delenv(name)
    (folder / ".env").write_text(f"{name}=x\n", encoding="utf-8")
    assert misspelt_settings() == [f"{name} in .env is no setting; did you mean {setting}?"]


def test_what_is_no_typo_is_not_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings, what `--on-done` passes on, an empty value, and what Kubernetes sets for services `askmill…`."""
    links = [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP",
        "PORT",
        "PORT_8765_TCP",
        "PORT_8765_TCP_ADDR",
    ]
    foreign = ["ASKMILL_BATCH", "ASKMILL_STATE", "ASKMILL_HOME", "ASKMILL_VERSION", "ASKMILL_TEST_LLAMA"]
    foreign += [
        f"ASKMILL_{service}{link}" for service in ("", "REDIS_", "WEB_", "METRICS_") for link in links
    ]
    foreign.remove("ASKMILL_METRICS_PORT")
    for name in [*map(variable_of, Settings.model_fields), *foreign]:
        monkeypatch.setenv(name, "tcp://10.0.0.1:80")
    monkeypatch.setenv("ASKMILL_MODLE", "")
    (folder / ".env").write_bytes(b"ASKMILL_\xff\n")

    assert misspelt_settings() == []


def test_commands_name_a_misspelt_setting_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr, and nothing else changes."""
    monkeypatch.setenv("ASKMILL_MODLE", "gpt-6-luna")

    done = CliRunner().invoke(askmill, ["submit", "missing.csv"])

    assert done.stderr.count("ASKMILL_MODLE is no setting; did you mean ASKMILL_MODEL?\n") == 1
    assert (done.exit_code, done.stdout) == (2, "")


def test_a_bad_value_of_the_env_file_is_shown(folder: Path) -> None:
    """The message quotes the value, as for the environment."""
    (folder / ".env").write_text("ASKMILL_CONCURRENCY=abc\n", encoding="utf-8")

    with pytest.raises(BadSetting, match="ASKMILL_CONCURRENCY \\(it is 'abc'\\)"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ASKMILL_REDIS_URL", "redis://me:hush-hush@localhost:notaport"),
        ("ASKMILL_REDIS_URL", "redis://:hush-hush/x@localhost:6379/0"),
        ("ASKMILL_REDIS_URL", "redis://me:hush-hush@[::1"),
        ("OPENAI_API_KEY", "hush-hush ключ"),
    ],
)
def test_a_bad_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """The message names the fault only."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(BadSetting) as bad:
        load_settings()

    assert "hush" not in str(bad.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost", "redis://localhost:6379/", "redis://u:p@h:1/15", "rediss://h", "redis:///0",
        "unix:///run/redis.sock", "unix:///run/redis.sock?db=1", "redis://[::1]:6379/0?socket_timeout=3",
    ],
)  # fmt: skip
def test_valid_redis_urls_are_accepted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Every form that redis-py and Celery accept."""
    monkeypatch.setenv("ASKMILL_REDIS_URL", url)

    redis_url = load_settings().redis_url
    assert redis_url is not None
    assert redis_url.get_secret_value() == url


def test_a_tilde_is_the_home_folder(folder: Path) -> None:
    """A `~` is expanded in `.env` too, where no shell does it."""
    lines = "ASKMILL_DATA_DIR=~/stack\nASKMILL_PRICES=~/prices.toml\n"
    (folder / ".env").write_text(lines, encoding="utf-8")

    settings = load_settings()

    assert settings.data_dir == folder / "home" / "stack"
    assert settings.prices == folder / "home" / "prices.toml"


def test_chat_completions_have_few_calls_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local servers have few slots: 8 calls at a time, unless ASKMILL_CONCURRENCY says otherwise."""
    assert load_settings().concurrency_in_use == 200
    monkeypatch.setenv("ASKMILL_API", "chat")
    assert load_settings().concurrency_in_use == 8
    monkeypatch.setenv("ASKMILL_CONCURRENCY", "30")
    assert load_settings().concurrency_in_use == 30


def test_a_user_without_home_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Case B12: an unknown user id without HOME (a container) is told which variable to set, no traceback."""

    def unknown(uid: int) -> None:
        raise KeyError(f"uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for variable in ("HOME", "XDG_DATA_HOME", "ASKMILL_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(BadSetting, match="Set ASKMILL_DATA_DIR to a folder"):
        load_settings()
    monkeypatch.setenv("ASKMILL_DATA_DIR", "/tmp/askmill-without-home")
    assert load_settings().data_dir == Path("/tmp/askmill-without-home")
