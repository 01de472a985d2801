"""Two real processes: equality with one process, a single writer, and no hanging process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from covlab.launch.processes import Detected, Place, find_place
from tracking.array_log import recorded_names
from training import Layout

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
LIMIT = 900
"""Timeout in seconds, far above the duration of every test of this file."""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("localhost", 0))
        port: int = server.getsockname()[1]
        return port


def environment(**more: str) -> dict[str, str]:
    launchers = ("SLURM_", "TPU_", "MEGASCALE_", "OMPI_", "KUBERNETES_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", *launchers))}
    return kept | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "JAX_PLATFORMS": "cpu"} | more


@pytest.fixture(scope="module")
def two() -> Any:
    """Functions that the two processes also run."""
    sys.path.append(str(Path(__file__).parent))
    import two_processes

    return two_processes


@pytest.fixture(scope="module")
def one(two: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of this process alone, one stopped half-way, and the folder of its checkpoint."""
    folder = tmp_path_factory.mktemp("processes")
    stopped = two.run((3, 4), Layout(), folder / "one", stop_at=3)
    assert stopped["stopped"] == "asked to"
    (folder / "one.json").write_text(json.dumps(stopped))
    return two.run((3, 4), Layout()), folder


@pytest.fixture(scope="module")
def found(one: Any) -> Any:
    """Output of two processes."""
    folder, port = one[1], str(free_port())
    script = str(Path(__file__).parent / "two_processes.py")
    started = [
        subprocess.Popen(
            [sys.executable, script, str(number), port, str(folder)],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=LIMIT)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return json.loads((folder / "found.json").read_text())


def same(mine: dict[str, Any], other: dict[str, Any], seeds: tuple[int, ...] = (3, 4)) -> None:
    expected = [record for record in other["records"] if record["seed"] in seeds]
    assert len(mine["records"]) == len(expected) > 0
    for record, wanted in zip(mine["records"], expected, strict=True):
        assert record.keys() == wanted.keys()
        numbers = {key: value for key, value in wanted.items() if key != "phase"}
        mine_alone = {key: record[key] for key in numbers}
        assert mine_alone == pytest.approx(numbers, rel=1e-4, abs=1e-6)
    for name, rows in mine["scores"].items():
        for row, wanted in zip(rows, other["scores"][name], strict=False):
            for values, those in zip(row, wanted, strict=True):
                assert values == pytest.approx(those, rel=1e-4)


@pytest.mark.slow
def test_two_processes_compute_what_one_does(one: Any, found: Any) -> None:
    assert found["shared"] == [[0, "word"], [1, "word"]]
    same(found["seeds"], one[0])
    same(found["data"], one[0], (3,))
    for name in ("seeds", "data"):
        assert found[name]["tables"] == json.loads(json.dumps(one[0]["tables"]))


@pytest.mark.slow
def test_they_agree_on_who_diverged(found: Any) -> None:
    assert found["diverged"]["failed"] == {"4": ["p", 4]}
    assert {record["seed"] for record in found["diverged"]["records"] if record["step"] > 5} == {3}
    assert "seed 3 at step 4 of p" in found["all diverged"]["diverged"]


@pytest.mark.slow
def test_a_stop_of_one_stops_both_at_one_boundary_and_they_go_on(one: Any, found: Any) -> None:
    assert found["stopped"]["stopped"] == "asked to"
    assert found["stopped"]["records"][-1]["step"] == 10
    resumed = found["resumed"]
    assert resumed["messages"] == ["resuming in phase p after step 10"]
    same(resumed, one[0])


@pytest.mark.slow
def test_two_processes_continue_what_one_began(one: Any, found: Any) -> None:
    continued = found["continued"]
    assert continued["messages"] == ["resuming in phase p after step 10"]
    same(continued, one[0])


TINY = (
    "task.depth=2", "task.width=2", "task.num_ids=8", "model.width=16", "model.num_layers=1",
    "model.num_heads=2", "batch_size=8", "evaluation.schedule.every=5", "evaluation.num_examples=16",
    "tracking.wandb=disabled", "tracking.figures=false", "devices=1", "seeds=2", "name=two",
)  # fmt: skip


def by_hand(number: int, port: int) -> dict[str, str]:
    address = f"localhost:{port}"
    return {
        "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(number),
    }  # fmt: skip


def tpu_pod(number: int, port: int) -> dict[str, str]:
    """Variables of a TPU pod on Kubernetes, and those that keep JAX from asking for a TPU."""
    return {
        "COVLAB_DISTRIBUTED": "auto", "TPU_WORKER_HOSTNAMES": "localhost,localhost",
        "TPU_WORKER_ID": str(number), "JAX_COORDINATOR_PORT": str(port), "JAX_FORCE_TPU_INIT": "1",
        "TPU_LIBRARY_PATH": __file__, "MEGASCALE_COORDINATOR_ADDRESS": "", "MEGASCALE_NUM_SLICES": "",
        "MEGASCALE_SLICE_ID": "",
    }  # fmt: skip


def open_mpi(number: int, port: int) -> dict[str, str]:
    """Variables that `mpirun -n 2` sets."""
    return {
        "COVLAB_DISTRIBUTED": "auto", "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": str(number),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(number), "JAX_COORDINATOR_PORT": str(port),
    }  # fmt: skip


def command(
    folder: Path, *overrides: str, launcher: Callable[[int, int], dict[str, str]] = by_hand
) -> list[subprocess.Popen[str]]:
    """`experiments.train` on two processes."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-m", "experiments.train", *TINY, *overrides],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(**launcher(number, port)),
        )
        for number in range(2)
    ]  # fmt: skip


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    said = [process.communicate(timeout=LIMIT) for process in processes]
    return [(process.returncode, *text) for process, text in zip(processes, said, strict=True)]


def wait_for(path: Path, name: str, processes: list[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + LIMIT
    while name not in recorded_names(path) and all(process.poll() is None for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps(folder: Path) -> list[tuple[int, int]]:
    lines = (folder / "runs" / "train" / "two" / "metrics.jsonl").read_text().splitlines()
    return [(record["step"], record["seed"]) for record in map(json.loads, lines)]


@pytest.mark.slow
def test_a_command_stopped_on_its_second_process_continues_to_the_end(tmp_path: Path) -> None:
    processes = command(tmp_path, "steps=100000")
    wait_for(tmp_path / "runs/train/two", "train_00000005", processes)
    processes[1].send_signal(signal.SIGTERM)
    (status, _, error), (other, out, _) = ended(processes)
    assert (status, other) == (130, 130), error
    assert "stopped: SIGTERM" in error
    assert "complete" not in out
    last = steps(tmp_path)[-1][0]
    (status, out, error), (other, quiet, _) = ended(command(tmp_path, f"steps={last}", "name=more"))
    assert (status, other) == (0, 0), error
    assert "complete in" in out
    assert "complete" not in quiet
    assert sorted(path.name for path in (tmp_path / "runs" / "train").iterdir()) == ["more", "two"]


@pytest.mark.slow
def test_a_refusal_ends_both_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    (status, _, error), (other, _, quiet) = ended(command(tmp_path, "steps=5"))
    assert (status, other) == (2, 2)
    assert error.count("error: ") == 1
    assert "Not a directory" in error
    assert "error" not in quiet


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_dies_leaves_no_other_hanging(tmp_path: Path, killed: int) -> None:
    """The other process ends at once over gloo, whose connection breaks, else within `HEARTBEAT_SECONDS`."""
    processes = command(tmp_path, "steps=100000")
    wait_for(tmp_path / "runs/train/two", "train_00000005", processes)
    processes[killed].kill()
    found = ended(processes)
    assert found[killed][0] == -signal.SIGKILL
    assert found[1 - killed][0] not in (0, 130)


@pytest.mark.slow
def test_processes_that_jax_detects_are_those_made_by_hand(tmp_path: Path) -> None:
    """The numbers of two processes, with a single writer."""
    found = {}
    for launcher in (by_hand, tpu_pod, open_mpi):
        folder = tmp_path / launcher.__name__
        folder.mkdir()
        (status, out, error), (other, quiet, _) = ended(command(folder, "steps=5", launcher=launcher))
        assert (status, other) == (0, 0), error
        assert "complete in" in out
        assert "complete" not in quiet
        found[launcher.__name__] = (folder / "runs" / "train" / "two" / "metrics.jsonl").read_text()
    assert steps(tmp_path / "by_hand")[-1] == (5, 1)
    assert found["tpu_pod"] == found["open_mpi"] == found["by_hand"]


def test_detection_without_a_launcher_ends_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", *TINY, "steps=5"],
        cwd=tmp_path,
        env=environment(COVLAB_DISTRIBUTED="auto"),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: COVLAB_DISTRIBUTED: auto, and JAX detects no launcher (coordinator_address should be "
        "defined); valid: on a TPU pod, on Kubernetes with the package kubernetes, or under Open MPI; "
        "elsewhere JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID"
    ]
    assert not list(tmp_path.iterdir())


SLURM = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, None),
        ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}, None),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"},
            Place("a:1", 2, 1, None),
        ),
        ({"COVLAB_DISTRIBUTED": "auto"}, Detected()),
        ({"COVLAB_DISTRIBUTED": ""}, None),
        (
            {"COVLAB_DISTRIBUTED": "auto", "JAX_COORDINATOR_ADDRESS": "a:1"}
            | {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"},
            Place("a:1", 2, 1, None),
        ),
        # Slurm's own answer counts; of a batch script, which is not a step, JAX would expect all its tasks.
        (SLURM | {"COVLAB_DISTRIBUTED": "auto"}, Place(None, 4, 3, None)),
        (SLURM | {"COVLAB_DISTRIBUTED": "auto", "SLURM_STEP_NUM_TASKS": "1"}, None),
        (SLURM, Place(None, 4, 3, None)),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, None),
        # A batch script is not a step: its one process is alone, however many tasks the job may start.
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, None),
        (
            SLURM | {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"},
            Place("a:1", 2, 1, None),
        ),
        # Two tasks a node that see all of its four accelerators, one task alone, and tasks with their own.
        (
            SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "CUDA_VISIBLE_DEVICES": "0,1,2,3"},
            Place(None, 4, 3, (2, 3)),
        ),
        (
            SLURM
            | {"SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_LOCALID": "0", "CUDA_VISIBLE_DEVICES": "0,1"},
            Place(None, 4, 3, (0, 1)),
        ),
        (
            SLURM
            | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "CUDA_VISIBLE_DEVICES": "1", "SLURM_GPUS_ON_NODE": "2"},
            Place(None, 4, 3, (0,)),
        ),
    ],
)
def test_the_place_comes_from_the_launcher(
    variables: Mapping[str, str], place: Place | Detected | None
) -> None:
    assert find_place(variables) == place


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        (
            {"JAX_PROCESS_ID": "1"},
            "JAX_PROCESS_ID: set without JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES; several processes need "
            "all three",
        ),
        (
            {"JAX_COORDINATOR_ADDRESS": "host", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"},
            "JAX_COORDINATOR_ADDRESS: 'host' is not host:port",
        ),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"},
            "JAX_NUM_PROCESSES: 'two' is not an integer >= 0",
        ),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"},
            "JAX_PROCESS_ID: 2 is not below JAX_NUM_PROCESSES = 2",
        ),
        (
            {"COVLAB_DISTRIBUTED": "yes"},
            "COVLAB_DISTRIBUTED: 'yes' is not auto, with which JAX detects the launcher",
        ),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "SLURM_PROCID: '' is not an integer >= 0"),
    ],
)
def test_variables_that_make_no_sense_are_refused_in_one_line(
    variables: Mapping[str, str], line: str
) -> None:
    with pytest.raises(ValueError, match=r"set without|is not") as refused:
        find_place(variables)
    assert str(refused.value) == line
