"""A command on several processes, on one host or many: the first runs the command, the others train with it.

Every process is started with the same command, by Slurm (`srun`, a job step with more than one task), by a
launcher that JAX detects (a TPU pod, Kubernetes, Open MPI) if `COVLAB_DISTRIBUTED=auto` says so, or by hand
with three variables. These three take precedence, then Slurm's:

    JAX_COORDINATOR_ADDRESS=host:port   address at which the first process listens
    JAX_NUM_PROCESSES=2                 number of processes
    JAX_PROCESS_ID=0                    index of this process, from 0

The first process is the leader: it reads the configuration, writes files, talks to W&B and the terminal. The
others are followers: they receive the configuration and requests from the leader, compute, and exit with its
status. A process that dies ends all others: at once if it is the leader or a connection breaks, else when JAX
has missed its heartbeat for `HEARTBEAT_SECONDS`. The same command continues the run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

HEARTBEAT_SECONDS = 100
_PATIENCE = 10.0
"""Seconds that an exiting process waits for the others."""

OWN_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
SLURM_VARIABLES = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID")
DETECTION = "COVLAB_DISTRIBUTED"
"""Variable that asks JAX to detect the launcher; on Kubernetes JAX then calls the cluster's server."""

Stop = Callable[[], str | None]


class Place(NamedTuple):
    """This process among several. `address` is None if JAX finds it in Slurm's variables. `devices` are the
    visible accelerators that the process uses, None for all."""

    address: str | None
    processes: int
    process: int
    devices: tuple[int, ...] | None


class Detected(NamedTuple):
    """A process whose place is detected by JAX, as by `jax.distributed.initialize()` without arguments."""


def find_place(environ: Mapping[str, str]) -> Place | Detected | None:
    """This process's place according to the launcher's environment; None if it is the only process.

    Raises:
        ValueError: one line, for missing or invalid variables.
    """
    given = [name for name in OWN_VARIABLES if environ.get(name)]
    detection = environ.get(DETECTION, "")
    if detection not in ("", "auto"):
        raise ValueError(f"{DETECTION}: {detection!r} is not auto, with which JAX detects the launcher")
    if not given:
        if detection and not environ.get(SLURM_VARIABLES[0]):
            return Detected()
        processes = _number(environ, SLURM_VARIABLES[0], 1)
        if processes == 1:
            return None
        return Place(None, processes, _number(environ, SLURM_VARIABLES[1]), _own_devices(environ))
    missing = [name for name in OWN_VARIABLES if name not in given]
    if missing:
        raise ValueError(f"{given[0]}: set without {', '.join(missing)}; several processes need all three")
    address = environ[OWN_VARIABLES[0]]
    processes, process = _number(environ, OWN_VARIABLES[1]), _number(environ, OWN_VARIABLES[2])
    if not address.rpartition(":")[2].isdecimal() or ":" not in address:
        raise ValueError(f"{OWN_VARIABLES[0]}: {address!r} is not host:port")
    if processes < 1:
        raise ValueError(f"{OWN_VARIABLES[1]}: {processes} is not an integer >= 1")
    if process >= processes:
        raise ValueError(f"{OWN_VARIABLES[2]}: {process} is not below {OWN_VARIABLES[1]} = {processes}")
    return None if processes == 1 else Place(address, processes, process, None)


def run_on_all_processes(
    main: Callable[[], None], install: Callable[[], Stop], configure: Callable[..., None]
) -> Callable[[], None]:
    """`main` on the leader, and `follow` on every other process.

    Args:
        main: a command; raises SystemExit with its status.
        install: installs a follower's handlers of the signals that ask it to stop.
        configure: `runtime.configure`, which a follower calls with the leader's arguments.
    """

    def on_all() -> None:
        try:
            place = find_place(os.environ)
            process, processes = (0, 1) if place is None else start(place, os.environ)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        if processes == 1:
            main()
            return
        if process > 0:
            sys.exit(follow(install(), configure))
        status = 1
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
            raise
        finally:
            dismiss(status)

    return on_all


def start(place: Place | Detected, environ: MutableMapping[str, str]) -> tuple[int, int]:
    """Connect this process to the others; waits for them up to five minutes.

    The variables are removed, because a child process (a job of a sweep, a helper of W&B) does not take part.

    Returns:
        The index of this process and the number of processes.

    Raises:
        ValueError: JAX detects no launcher, in one line.
    """
    import jax
    from jax._src.distributed import global_state

    # JAX would handle SIGTERM, which the run handles already.
    jax.config.update("jax_enable_preemption_service", False)
    patience: dict[str, Any] = {
        "heartbeat_timeout_seconds": HEARTBEAT_SECONDS,
        "shutdown_timeout_seconds": int(_PATIENCE),
    }
    if isinstance(place, Detected):
        try:
            jax.distributed.initialize(**patience)
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise ValueError(
                f"{DETECTION}: auto, and JAX detects no launcher ({reason}); valid: on a TPU pod, on "
                f"Kubernetes with the package kubernetes, or under Open MPI; elsewhere "
                f"{', '.join(OWN_VARIABLES)}"
            ) from error
    else:
        jax.distributed.initialize(
            place.address,
            place.processes,
            place.process,
            local_device_ids=place.devices,
            cluster_detection_method="slurm" if place.address is None else "deactivate",
            **patience,
        )
    for name in (*OWN_VARIABLES, *SLURM_VARIABLES, DETECTION):
        environ.pop(name, None)
    return global_state.process_id, global_state.num_processes


def send(**requests: Any) -> None:
    """Send a request to the followers; does nothing if there are none."""
    from jax._src.distributed import global_state

    # Asked first, because most commands do without the imports of `training`.
    if global_state.num_processes > 1:
        from training.processes import share

        share(requests)


def follow(stop: Stop, configure: Callable[..., None]) -> int:
    """Serve the leader's requests until it ends; returns the exit status."""
    import jax

    from training.processes import Ended, share

    while True:
        try:
            wanted = share(None)[0]
            if "configure" in wanted:
                configure(*wanted["configure"])
            else:
                _train(wanted["train"], stop)
        except Ended as ended:
            jax.distributed.shutdown()
            return ended.status


def dismiss(status: int) -> None:
    """End all processes with `status`. If some are stuck, this process exits at once without returning, and
    JAX ends the others."""
    from training.processes import end

    if not end(status, _PATIENCE):
        print("some of the other processes do not answer and are left to JAX to end", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _train(text: str, stop: Stop) -> None:
    """A follower's part in `train_run`."""
    from omegaconf import DictConfig, OmegaConf

    from covlab.launch.build import build
    from models import ModelError
    from training import Trainer, TrainingDiverged
    from training.follower import SilentCheckpoints, SilentSink

    config = OmegaConf.create(text)
    assert isinstance(config, DictConfig)
    setup = build(config)
    checkpoints = SilentCheckpoints(setup.checkpoint)
    trainer = Trainer(
        setup.model,
        setup.phases,
        setup.seeds,
        setup.evaluators,
        setup.held_out(),
        SilentSink(),
        checkpoints,
        stop,
        setup.evaluation[-1].table_prompts,
        layout=setup.layout(config),
        start_from_fixed=setup.start_from_base,
    )
    try:
        trainer.run()
    except (TrainingDiverged, ModelError):
        # The leader reports the error.
        return


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise ValueError(f"{name}: {text!r} is not an integer >= 0")
    return int(text)


def _own_devices(environ: Mapping[str, str]) -> tuple[int, ...] | None:
    """The accelerators of a Slurm task: an equal share of the node's, unless Slurm has shared them out.

    If a task sees all accelerators of the node, JAX would give it only one.
    """
    if "JAX_LOCAL_DEVICE_IDS" in environ:
        return tuple(int(text) for text in environ["JAX_LOCAL_DEVICE_IDS"].split(","))
    visible = [text for text in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if text]
    node = environ.get("SLURM_GPUS_ON_NODE", "")
    tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", environ.get("SLURM_TASKS_PER_NODE", "1"))
    here = int(tasks.split(",")[0].split("(")[0])
    if not visible or (node.isdecimal() and len(visible) < int(node)) or len(visible) % here:
        return tuple(range(len(visible))) or None
    each, local = len(visible) // here, int(environ.get("SLURM_LOCALID", "0"))
    return tuple(range(local * each, (local + 1) * each))
