"""Profiles: combining a TOML file and options, and the message of each fault."""

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import SecretStr

from askmill.jobs.model.api_target import Target
from askmill.jobs.model.errors import ProfileError
from askmill.jobs.model.profile import Profile
from askmill.jobs.submit.profile_loader import (
    ProfileOptions,
    build_profile,
    profile_schema,
    refuse_unsupported,
    warnings,
)

TARGET = Target("responses", "https://api.openai.com/v1", SecretStr("k"), offline=False)
EXAMPLES = Path(__file__).parents[2] / "examples"


def _built(file: Path | None = None, *, offline: bool = False, **options: Any) -> Profile:
    return build_profile(file, ProfileOptions(**options), "gpt-5-mini", offline=offline)


def _toml(folder: Path, text: str) -> Path:
    file = folder / "profile.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults() -> None:
    """Without options: the default model; offline the tutor profile with the emulator's model."""
    assert _built() == Profile(model="gpt-5-mini")
    tutor = _built(offline=True)
    assert tutor.tools == ("code_interpreter",)
    assert tutor == build_profile(EXAMPLES / "tutor.toml", ProfileOptions(), "another", offline=True)
    assert tutor == _built(offline=True, model="gpt-6-sol")
    assert tutor.model == "askmill-emulator"
    on_chat = build_profile(None, ProfileOptions(), "gpt-5-mini", offline=True, api="chat")
    assert on_chat == tutor.model_copy(update={"tools": ()})


def test_options_override_the_file(tmp_path: Path) -> None:
    """Options override the file; a repeated tool counts once."""
    file = _toml(tmp_path, 'model = "a"\ntools = ["web_search"]\ninstructions = "Be brief."')

    profile = _built(file, model="b", tools=("file_search", "file_search"))

    assert profile.model == "b"
    assert profile.tools == ("file_search",)
    assert profile.instructions == "Be brief."


@pytest.mark.parametrize("schema", ['{type = "nonsense"}', '"gone.json"', '"broken.json"'])
def test_all_faults_are_reported_at_once_with_file_and_field(tmp_path: Path, schema: str) -> None:
    """An unknown key, a bad value, a bad schema, files, a function without hints: one error names them all."""
    (tmp_path / "bare.py").write_text("def lookup(name): ...", encoding="utf-8")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "bare.mp3").write_text("la", encoding="utf-8")
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    lines = ('colour = "red"', "temperature = 3", f"response_schema = {schema}", 'functions = "bare.py"')
    files = 'files = ["gone.txt", "empty.txt", "broken.json", "bare.mp3"]\ntools = ["file_search"]'
    file = _toml(tmp_path, "\n".join([*lines, files]))

    with pytest.raises(ProfileError) as error:
        _built(file)

    faults = str(error.value).splitlines()
    for start, part in (
        ("colour", "there is no such field"),
        ("temperature", "2"),
        ("response_schema", ""),
        ("functions", "parameter name has no type hint"),
        ("files", "gone.txt: there is no such file"),
        ("files", "empty.txt is empty"),
        ("files", "bare.mp3: file_search cannot read .mp3"),
    ):
        assert any(line.startswith(f"{file}: {start}: ") and part in line for line in faults), faults
    assert len(faults) == 7


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("model = ", "not TOML"),
        ('functions = ["f"]', "functions"),
        ('response_schema = "gone.json"', "gone.json"),
        ('files = ["a.txt"]', "no tool reads them"),
        ("max_completion_tokens = 0", "max_completion_tokens"),
        ('truncation = "last_messages:0"', "truncation: must be auto, disabled or last_messages:N"),
        ("[file_search]\nmax_num_results = 5", "not among the tools"),
        ("[metadata]\n" + "\n".join(f'k{n} = "v"' for n in range(14)), "metadata"),
    ],
)
def test_each_fault_names_its_field(tmp_path: Path, text: str, word: str) -> None:
    """A fault in any field is an error that names the field."""
    with pytest.raises(ProfileError, match=word):
        _built(_toml(tmp_path, text))


def test_a_fault_of_an_option_without_a_profile_names_the_options() -> None:
    """There is no profile then that the user could look into."""
    with pytest.raises(ProfileError, match=r"^the options: temperature: "):
        _built(temperature=5.0)


def test_paths_of_a_file_are_relative_to_it(tmp_path: Path) -> None:
    """Relative paths in a profile are resolved in the profile's folder."""
    (tmp_path / "schema.json").write_text('{"type": "object"}', encoding="utf-8")
    (tmp_path / "tools.py").write_text('def now(zone: str) -> str:\n    "The time."\n', encoding="utf-8")
    file = _toml(
        tmp_path,
        'files = ["schema.json"]\ntools = ["file_search"]\nresponse_schema = "schema.json"\nfunctions = "tools.py"',
    )

    profile = _built(file)

    assert profile.files == (str(tmp_path / "schema.json"),)
    assert profile.response_schema == {"type": "object"}
    assert profile.functions is not None
    assert profile.functions.tools[0].name == "now"


def test_a_stored_assistant_keeps_its_own_model() -> None:
    """The default model does not override that of `--assistant-id`."""
    assert _built(assistant_id="asst_1").model is None


def test_unsupported_fields_are_refused() -> None:
    """A field that the API does not support is refused at submit."""
    with pytest.raises(ProfileError, match="web_search"):
        refuse_unsupported(Profile(tools=("web_search",)), "assistants")
    with pytest.raises(ProfileError, match="max_prompt_tokens"):
        refuse_unsupported(Profile(max_prompt_tokens=1000), "responses")
    refuse_unsupported(Profile(max_completion_tokens=50), "responses")
    with pytest.raises(ProfileError, match="max_completion_tokens 50 is below this API's 256"):
        refuse_unsupported(Profile(max_completion_tokens=50), "assistants")
    refuse_unsupported(Profile(max_completion_tokens=1, extra_body={"top_k": 1}), "chat", ("image",))
    with pytest.raises(ProfileError, match="--override file"):
        refuse_unsupported(Profile(), "chat", ("image", "file"))


def test_a_low_prompt_limit_with_file_search_is_a_warning() -> None:
    """The API's documentation recommends 20,000 prompt tokens."""
    assert "20000" in warnings(Profile(tools=("file_search",), max_prompt_tokens=1000), TARGET)[0]
    assert not warnings(Profile(tools=("file_search",)), TARGET)


def test_the_editor_schema_is_current_and_fits_the_example() -> None:
    """`python -m askmill.jobs.submit.profile_loader > examples/profile.schema.json` was run after the last change."""
    stored = json.loads((EXAMPLES / "profile.schema.json").read_text(encoding="utf-8"))

    assert stored == profile_schema()
    jsonschema.validate(tomllib.loads((EXAMPLES / "tutor.toml").read_text(encoding="utf-8")), stored)
