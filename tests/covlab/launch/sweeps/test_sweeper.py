"""Sweeps with a stand-in for training: running, skipping, naming and stopping jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig

from covlab.launch import cli
from covlab.launch.build import identity_of
from covlab.launch.cli import StopRequest, flags_last
from covlab.launch.stopping import GoingOn, Signals
from covlab.launch.sweeps.jobs import JOB_VARIABLE, Outcome, read_outcome, varying
from covlab.launch.sweeps.slots import Slot, _accelerators, share
from experiments import train

Sweep = Callable[..., object]
TESTS = Path(__file__).parents[3]
LIMIT = 120


@pytest.fixture
def sweep(call: Sweep, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Sweep in this process, with `oracles.toy_job` in place of the training command."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    main = cli.command("train", train.train, module="oracles.toy_job")
    return lambda *arguments: call(main, *arguments)


@pytest.fixture
def _no_workers_left() -> Iterator[None]:
    """End joblib's workers with the test."""
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def seen(folder: Path, seed: int) -> dict[str, object]:
    return json.loads((folder / f"seen-{seed}.json").read_text())


@pytest.mark.long
def test_every_job_is_a_process_and_a_failing_one_is_named(sweep: Sweep, tmp_path: Path) -> None:
    # --multirun stands among the overrides.
    ended = sweep("steps=10", "--multirun", "seed=0,1,2,4,5", "optimizer=sgd")
    assert ended.status == 2
    assert seen(tmp_path, 0)["pid"] != seen(tmp_path, 5)["pid"]
    # So that a module of the user's there hides none of the lab's.
    assert seen(tmp_path, 5)["searched_last"] == str(tmp_path)
    assert seen(tmp_path, 5)["arguments"] == ["steps=10", "seed=5", "optimizer=sgd"]
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert errors == [
        "error: job 2 of 5 (seed=1): seed: 1 is not wanted",
        "error: job 3 of 5 (seed=2): killed by SIGKILL, probably because memory ran out",
        "error: job 4 of 5 (seed=4): ended with exit status 1",
    ]
    table = ended.out.splitlines()[-6:]
    assert table[0] == "sweep of 5 jobs: 2 complete, 3 failed"
    assert [line.split()[:2] for line in table[1:]] == [
        [str(i), state] for i, state in enumerate(["complete", "failed", "failed", "failed", "complete"], 1)
    ]
    assert table[1].split()[2] == "runs/train/optimizer=sgd__seed=0__steps=10"
    assert "(seed=1) seed: 1 is not wanted" in table[2]
    [folder] = (tmp_path / "runs" / "train" / ".sweeps").iterdir()
    stored = json.loads((folder / "summary.json").read_text())
    assert [row["state"] for row in stored] == ["complete", "failed", "failed", "failed", "complete"]


@pytest.mark.long
def test_what_does_not_compose_is_named_and_the_others_run(sweep: Sweep, tmp_path: Path) -> None:
    ended = sweep("-m", "optimizer=sgd,adagrad", "seed=0")
    assert ended.status == 2
    assert "error: job 2 of 2 (optimizer=adagrad): " in ended.err
    assert ended.err.count("\n") == 1
    assert "adagrad" in ended.err
    assert "adamw" in ended.err
    assert seen(tmp_path, 0)
    ended = sweep("-m", "task.dpeth=2,3")
    assert ended.err.count("did you mean depth?") == 2
    assert "sweep of 2 jobs: 2 failed" in ended.out


@pytest.mark.long
def test_complete_runs_are_skipped_and_others_are_not(
    sweep: Sweep, tmp_path: Path, compose_config: Callable[..., DictConfig]
) -> None:
    def make(seed: int, state: str, reason: str = "", of: int | None = None) -> None:
        path = tmp_path / "runs" / "train" / f"seed={seed}"
        path.mkdir(parents=True)
        config = identity_of(compose_config("train", f"seed={seed if of is None else of}"))
        # `tracking` changes no number, so it may differ.
        config["tracking"]["progress"] = False
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        (path / "status.json").write_text(json.dumps({"state": state, "reason": reason}))

    make(0, "complete")
    make(5, "stopped")
    make(6, "complete", of=7)
    make(8, "complete", "seed 8 diverged at step 3 of train")
    ended = sweep("-m", "seed=0,5,6,8,9")
    # toy_job is no training command, so nothing counts as complete without a verdict.
    assert "5 complete" in ended.out
    for seed in (0, 8):
        (tmp_path / "runs" / "train" / f"seed={seed}" / "verdict.json").write_text("{}")
    for path in tmp_path.glob("seen-*.json"):
        path.unlink()
    ended = sweep("-m", "seed=0,5,6,8,9")
    assert sorted(path.name for path in tmp_path.glob("seen-*.json")) == [
        "seen-5.json", "seen-6.json", "seen-9.json",
    ]  # fmt: skip
    assert "sweep of 5 jobs: 3 complete, 2 skipped" in ended.out
    assert "seed 8 diverged at step 3 of train" in ended.out
    assert ended.status == 1
    assert sweep("-m", "seed=0", "launcher=basic").status == 0


@pytest.mark.slow
def test_jobs_that_would_share_a_directory_are_refused(sweep: Sweep, tmp_path: Path) -> None:
    ended = sweep("-m", "seed=0,5", "name=same")
    assert ended.status == 2
    assert ended.err.startswith("error: name: jobs 1 and 2 of the sweep would share runs/train/same; ")
    assert ended.err.count("\n") == 1
    assert sweep("-m", "seed=0,5", "name=same-${seed}").status == 0
    assert not list(tmp_path.glob("seen-1.json"))


def test_a_root_that_cannot_be_written_is_one_line(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("")
    ended = sweep("-m", "seed=0,5", "root=a_file")
    assert ended.status == 2
    assert ended.err.count("Not a directory") == 2
    assert "Traceback" not in ended.err


@pytest.mark.usefixtures("_no_workers_left")
@pytest.mark.slow
def test_joblib_runs_jobs_at_once_each_on_its_own_cores(sweep: Sweep, tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    ended = sweep("-m", "launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,5,1,6")
    assert ended.status == 2, ended.err
    assert "sweep of 4 jobs: 3 complete, 1 failed" in ended.out
    told = [seen(tmp_path, seed) for seed in (0, 5, 6)]
    assert all(len(one["cores"]) == max(1, cores // 2) for one in told)
    assert len({one["pid"] for one in told}) == 3
    # Jobs whose times overlap have no core in common.
    if cores > 1:
        for one in told:
            for other in told:
                if one is not other and one["began"] < other["ended"] and other["began"] < one["ended"]:
                    assert not set(one["cores"]) & set(other["cores"])
    assert seen(tmp_path, 6)["arguments"] == ["seed=6"]
    assert (tmp_path / "runs" / "train" / ".sweeps").is_dir()


def test_a_number_of_jobs_that_is_none_is_refused(sweep: Sweep) -> None:
    ended = sweep("-m", "launcher=joblib", "hydra.launcher.n_jobs=0", "seed=0,5")
    assert ended.status == 2
    assert ended.err == "error: hydra.launcher.n_jobs: 0 is neither -1 nor an integer >= 1\n"


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("_no_workers_left")
def test_a_signal_stops_what_runs_and_starts_no_more(sweep: Sweep, tmp_path: Path, launcher: str) -> None:
    def interrupt() -> None:
        deadline = time.monotonic() + LIMIT
        while not (tmp_path / "waiting").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    one = ["hydra.launcher.n_jobs=1"] if launcher == "joblib" else []
    ended = sweep("-m", f"launcher={launcher}", *one, "seed=0,3,5")
    other.join()
    assert ended.status == 130, ended.err
    assert "SIGINT: the running jobs save and stop, no other starts" in ended.err
    assert "SIGINT: the sweep is stopped; the same command continues it" in ended.err
    table = ended.out.splitlines()[-4:]
    assert table[0] == "sweep of 3 jobs: 1 complete, 2 stopped"
    assert table[2].split()[-1] == "SIGINT"
    assert table[3].endswith("not started")
    assert not (tmp_path / "seen-5.json").exists()


def test_a_launcher_that_is_not_installed_is_named(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.core.config_store import ConfigStore

    available = ConfigStore.instance().repo["hydra"]["launcher"]
    for name in ("joblib.yaml", "submitit_slurm.yaml"):
        monkeypatch.delitem(available, name)
    for launcher, plugin in (("joblib", "hydra-joblib-launcher"), ("slurm", "hydra-submitit-launcher")):
        ended = sweep("-m", f"launcher={launcher}", "seed=0,5")
        assert ended.status == 2
        assert ended.err == (
            f"error: {plugin} is not installed, which this launcher needs: pip install -e '.[sweep]'\n"
        )


def test_flags_may_stand_anywhere() -> None:
    assert flags_last(["a=1", "--multirun", "b=2"]) == ["a=1", "b=2", "--multirun"]
    among = ["--config-dir", "here", "a=1", "-m", "b=2"]
    assert flags_last(among) == ["a=1", "b=2", "--config-dir", "here", "-m"]
    assert flags_last(["--cfg", "job", "a=1"]) == ["a=1", "--cfg", "job"]
    assert flags_last([]) == []


def test_cores_are_shared_out() -> None:
    assert share(8, 2, range(4), []) == (Slot((0, 1)), Slot((2, 3)))
    # No more slots than jobs, and never a slot without a core.
    assert share(1, 4, range(4), []) == (Slot((0, 1, 2, 3)),)
    assert share(3, 3, [5], []) == (Slot((5,)),) * 3
    # By default one job an accelerator, which no other sees.
    assert share(9, -1, range(4), ["0", "GPU-1"]) == (Slot((0, 1), "0"), Slot((2, 3), "GPU-1"))
    assert len(share(100, -1, range(10_000), [])) < 10_000
    with pytest.raises(ValueError, match="n_jobs: -2 is neither"):
        share(3, -2)


def test_gpus_count_only_where_jax_could_use_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert _accelerators(tmp_path) == []
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert _accelerators(tmp_path) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "jax_cuda12_plugin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _accelerators(tmp_path) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert _accelerators(tmp_path) == ["3"]


def test_what_varies_names_a_job() -> None:
    jobs = (("steps=3", "seed=0"), ("steps=3", "seed=1"))
    assert varying(jobs, 1) == "seed=1"
    assert varying(jobs[:1], 0) == "steps=3 seed=0"


def test_workers_see_a_sweep_stop_and_die(tmp_path: Path) -> None:
    going_on = GoingOn(tmp_path)
    assert going_on() == "the sweep's folder is gone"
    with going_on.hold() as stop:
        assert going_on() is None
        stop("SIGTERM")
        assert going_on() == "SIGTERM"
    other = tmp_path / "other"
    other.mkdir()
    holder = (
        "import sys, pathlib; from covlab.launch.stopping import GoingOn\n"
        "with GoingOn(pathlib.Path(sys.argv[1])).hold(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(other)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=TESTS.parent,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert GoingOn(other)() is None
        process.kill()
        process.wait()
    assert GoingOn(other)() == "the sweep was killed"


def test_new_processes_are_born_deaf_to_the_signals() -> None:
    reasons: list[str] = []
    with Signals((signal.SIGUSR1,), reasons.append) as signals:
        # Unblocked, SIGUSR1 would end this process.
        born = subprocess.run(
            [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGUSR1); print('alive')"],
            capture_output=True,
            text=True,
            check=False,
        )
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        deadline = time.monotonic() + LIMIT
        while signals.reason is None and time.monotonic() < deadline:
            time.sleep(0.01)
    assert born.stdout == "alive\n"
    assert reasons == ["SIGUSR1"]
    assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


STOPPABLE = """
import os, signal, sys, time
from covlab.launch.cli import StopRequest
stop = StopRequest().install()
print("ready", flush=True)
while stop() is None:
    time.sleep(0.01)
print(stop(), flush=True)
if len(sys.argv) > 1:
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["asked", "deserted", pytest.param("warned", marks=pytest.mark.slow)])
def test_a_job_stops_when_asked_deserted_or_warned(tmp_path: Path, how: str) -> None:
    environment = {**os.environ, JOB_VARIABLE: "-", "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        [sys.executable, "-c", STOPPABLE, *(["stay"] * (how == "warned"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, cwd=TESTS.parent,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if how == "asked":
            process.stdin.write("SIGINT\n")
            process.stdin.flush()
        elif how == "deserted":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGUSR2)
        reason = {"asked": "SIGINT", "deserted": "the sweep was killed", "warned": "SIGUSR2"}[how]
        assert process.stdout.readline() == f"{reason}\n"
        if how == "warned":
            # A scheduler's further warnings change nothing; a later Ctrl-C does.
            time.sleep(1.2)
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGUSR2)
            time.sleep(0.2)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT) != 0


def test_a_job_leaves_its_outcome_for_the_sweep(
    call: Sweep, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StopRequest, "_listen", lambda self: None)
    wrong = {
        "steps=many": "phases.train.steps: 'many' is not an integer >= 0",
        "task.dpeth=1": "task.dpeth: no such key",
    }
    for number, (bad, reason) in enumerate(wrong.items()):
        file = tmp_path / f"job-{number}.json"
        monkeypatch.setenv(JOB_VARIABLE, str(file))
        ended = call(train.main, *tiny, bad)
        # The sweep names the job: the job itself says nothing more.
        assert (ended.status, ended.err) == (2, "")
        outcome = read_outcome(file)
        assert isinstance(outcome, Outcome)
        assert outcome.status == 2
        assert outcome.reason.startswith(reason)
