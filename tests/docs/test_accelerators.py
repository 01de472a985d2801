"""docs/accelerators.md and the Dockerfile: commands compose, scripts parse, processes find their places."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jax._src.clusters.k8s_cluster import K8sCluster

from covlab.launch.build import build
from covlab.launch.processes import Detected, Place, find_place
from covlab.plan.claims import known_claim
from covlab.plan.target import target_of
from experiments.plan import OWN

ROOT = Path(__file__).parents[2]
BLOCKS: list[tuple[str, str]] = re.findall(
    r"^```(\w*)\n(.*?)^```", (ROOT / "docs" / "accelerators.md").read_text(), re.DOTALL | re.MULTILINE
)
SCRIPT, MANIFEST = (
    next(text for language, text in BLOCKS if language == wanted) for wanted in ("bash", "yaml")
)
JOB: Any = list(yaml.safe_load_all(MANIFEST))[1]
CONTAINER: Any = JOB["spec"]["template"]["spec"]["containers"][0]
SHELL = "".join(text for language, text in BLOCKS if language != "yaml")
CALL = re.compile(r"\bcovlab(?:-cuda)? ([a-z]\w*)((?: \w[\w.]*=[^\s\"]+)*)")
COMMANDS = [
    *((name, tuple(rest.split())) for name, rest in CALL.findall(SHELL)),
    (CONTAINER["args"][0], tuple(CONTAINER["args"][1:])),
]
"""(command, overrides) of every call of covlab, inside other programs' lines too."""
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions(name: str) -> list[str]:
    """Arguments of the Dockerfile's instructions of a kind."""
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, re.MULTILINE)


def test_every_call_of_the_page_is_read() -> None:
    calls = re.findall(r"\bcovlab(?:-cuda)? (?=[a-z])", SHELL)
    assert len(COMMANDS) == len(calls) + 1 > 10


@pytest.mark.parametrize(("name", "overrides"), COMMANDS, ids=lambda value: str(value))
def test_commands_compose(compose_config: Callable[..., Any], name: str, overrides: tuple[str, ...]) -> None:
    if name == "plan":
        own = dict(text.split("=", 1) for text in overrides if text.split("=", 1)[0] in OWN)
        target_of(own["target"])
        overrides = tuple(text for text in overrides if text.split("=", 1)[0] not in OWN)
        name = known_claim(own["claim"]).name if "claim" in own else "train"
    config = compose_config(name, *overrides)
    if name == "train":
        assert build(config).seeds


def slurm(folder: Path, status: int) -> tuple[int, str]:
    """Exit status of the script, whose `srun` ends with `status`, and what it asked of `scontrol`."""
    said = folder / "said"
    said.write_text("")
    for name, text in (("srun", f"exit {status}"), ("scontrol", f'echo "$@" >> "{said}"')):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "run.sbatch").write_text(SCRIPT)
    variables = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    done = subprocess.run(["bash", "run.sbatch"], cwd=folder, env=variables, check=False)
    return done.returncode, said.read_text()


def test_shell_of_the_page_parses() -> None:
    subprocess.run(["bash", "-n"], input=SHELL, text=True, check=True)


@pytest.mark.parametrize(("status", "said"), [(0, ""), (1, ""), (2, ""), (130, "requeue 7\n")])
def test_the_slurm_script_requeues_what_was_saved_alone(tmp_path: Path, status: int, said: str) -> None:
    assert slurm(tmp_path, status) == (status, said)


def test_options_of_the_slurm_script() -> None:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", SCRIPT, re.MULTILINE))
    assert len(options) == SCRIPT.count("#SBATCH")
    # The warning is for the steps and not for the script (`B:`), and is one that a run heeds.
    assert options["signal"] == "USR1@120"
    # One process a node, which takes all of the node's GPUs.
    assert options["ntasks-per-node"] == "1"
    several = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x4)"}
    seen = {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_GPUS_ON_NODE": "2", "SLURM_LOCALID": "0"}
    assert find_place(several | seen) == Place(None, 4, 2, (0, 1))


def test_pods_of_the_job_find_each_other() -> None:
    service, spec = next(yaml.safe_load_all(MANIFEST)), JOB["spec"]
    count, name = spec["completions"], JOB["metadata"]["name"]
    given = {each["name"]: each.get("value") for each in CONTAINER["env"]}
    assert [name for name, value in given.items() if value is None] == ["JAX_PROCESS_ID"]
    # Kubernetes names the first pod of an indexed job so, in the domain of the headless service.
    address = f"{name}-0.{spec['template']['spec']['subdomain']}:1234"
    for index in range(count):
        assert find_place(given | {"JAX_PROCESS_ID": str(index)}) == Place(address, count, index, None)
    assert (spec["parallelism"], spec["completionMode"]) == (count, "Indexed")
    assert service["spec"] == {
        "clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"job-name": name},
    }  # fmt: skip
    assert service["metadata"]["name"] == spec["template"]["spec"]["subdomain"]


def server() -> types.ModuleType:
    """The package `kubernetes`, whose server knows the page's job and service."""
    service, spec = next(yaml.safe_load_all(MANIFEST)), JOB["spec"]
    name, node = JOB["metadata"]["name"], types.SimpleNamespace
    pod = node(
        metadata=node(
            name=f"{name}-1",
            labels={"job-name": name},
            owner_references=[node(kind=JOB["kind"], controller=True)],
        ),
        spec=node(subdomain=spec["template"]["spec"]["subdomain"]),
    )
    job = node(metadata=node(name=name, labels={}), spec=node(parallelism=spec["parallelism"]))
    headless = node(spec=node(cluster_ip=service["spec"]["clusterIP"], selector=service["spec"]["selector"]))
    core = node(
        list_namespaced_pod=lambda **_: node(items=[pod]),
        list_namespaced_service=lambda *_: node(items=[headless]),
    )
    found = types.ModuleType("kubernetes")
    found.config = node(load_incluster_config=lambda: None)  # type: ignore[attr-defined]
    found.client = node(  # type: ignore[attr-defined]
        CoreV1Api=lambda: core,
        BatchV1Api=lambda: node(read_namespaced_job=lambda **_: job),
        exceptions=node(ApiException=OSError),
    )
    return found


def test_jax_detects_the_pods_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` finds what the three variables say, but for the port."""
    monkeypatch.setitem(sys.modules, "kubernetes", server())
    monkeypatch.setattr(K8sCluster, "_namespace", classmethod(lambda cls: "default"))
    monkeypatch.setattr("socket.gethostbyname", lambda host: "10.0.0.1")
    for variable, value in {
        "KUBERNETES_SERVICE_HOST": "10.0.0.9", "HOSTNAME": "covlab-1", "JOB_COMPLETION_INDEX": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    assert K8sCluster.is_env_present()
    address = K8sCluster.get_coordinator_address(timeout_secs=10, override_coordinator_port="1234")
    by_hand = {each["name"]: each.get("value") for each in CONTAINER["env"]}
    assert address == by_hand["JAX_COORDINATOR_ADDRESS"]
    assert K8sCluster.get_process_count() == int(by_hand["JAX_NUM_PROCESSES"])
    assert K8sCluster.get_process_id() == 1


def test_the_variable_of_the_page_is_read() -> None:
    values = set(re.findall(r"COVLAB_DISTRIBUTED=(\w+)", SHELL))
    assert values == {"auto"}
    assert find_place({"COVLAB_DISTRIBUTED": values.pop()}) == Detected()


def test_the_image_has_all_packages_and_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = [name for line in instructions("COPY") for name in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= set(copied)
    assert {"pyproject.toml", "requirements.lock", *project["project"]["license-files"]} <= set(copied)
    extras = {"sweep", *re.findall(r"EXTRA=(\w+)", DOCKERFILE), *re.findall(r"EXTRA=(\w+)", SHELL)}
    assert "cuda" in extras
    assert extras <= set(project["project"]["optional-dependencies"])


def test_the_image_installs_the_locked_versions_by_its_argument() -> None:
    arguments = dict(text.split("=") for text in instructions("ARG"))
    assert instructions("FROM") == ["python:${PYTHON}-slim"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Python :: {arguments['PYTHON']}" in " ".join(project["classifiers"])
    assert set(re.findall(r"--build-arg (\w+)=", SHELL)) <= set(arguments)
    (install,) = (line for line in instructions("RUN") if "pip" in line)
    assert '--constraint requirements.lock ".[${EXTRA}]"' in install
    subprocess.run(["sh", "-n"], input="\n".join(instructions("RUN")), text=True, check=True)
    # No registry but those of the reader's own Docker and pip.
    assert not re.search(r"://|index-url|ghcr|/python:", DOCKERFILE)


def test_runs_of_the_image_lie_where_the_page_says() -> None:
    mounts = set(re.findall(r"-v \S*:(/\S+?)\"?(?= )", SHELL))
    assert mounts == {"/work/runs", "/cache"}
    assert {each["mountPath"] for each in CONTAINER["volumeMounts"]} == {"/work/runs"}
    assert instructions("WORKDIR")[-1] == "/work"
    assert "COVLAB_CACHE=/cache" in DOCKERFILE
    assert instructions("ENTRYPOINT") == ['["covlab"]']
