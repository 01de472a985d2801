"""A Slurm of one node on this machine: munged, slurmctld and slurmd below a folder, on free ports."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun")
INSTALL = "apt-get install -y --no-install-recommends slurm-wlm munge"

CONFIG = r"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
KillWait=15
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Boards=1 SocketsPerBoard=1 \
    CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory={memory}
PartitionName=low Nodes={host} Default=YES PriorityTier=1 PreemptMode=REQUEUE \
    GraceTime=60 MaxTime=INFINITE State=UP
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Reason why Slurm cannot be started here, for a skip."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    lacking = [name for name in COMMANDS if shutil.which(name, path=path) is None]
    if lacking:
        return [f"{', '.join(lacking)} not found: {INSTALL}"]
    return [] if os.geteuid() == 0 else ["only root can start Slurm's daemons"]


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start the daemons; yields the environment variables with which Slurm's commands find them.

    `folder` must have a short name: it holds a socket.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    host = socket.gethostname().split(".")[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 // 2
    config = folder / "slurm.conf"
    config.write_text(
        CONFIG.format(host=host, ports=_free_ports(2), folder=folder, cpus=os.cpu_count(), memory=memory)
    )
    environment = {"SLURM_CONF": str(config)}
    variables = os.environ | environment | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    # Whatever an outer Slurm set for this process is not for this one.
    variables = {
        k: v for k, v in variables.items() if not k.startswith(("SLURM_", "SBATCH_")) or k == "SLURM_CONF"
    }
    munged = [
        "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log",
        f"--seed-file={folder}/munged.seed",
    ]  # fmt: skip
    daemons: list[subprocess.Popen[bytes]] = []
    log = (folder / "daemons.log").open("wb")
    try:
        for command in (
            munged,
            ["slurmctld", "-D", "-f", str(config)],
            ["slurmd", "-D", "-f", str(config), "-N", host],
        ):
            # In a session of its own, so that a Ctrl-C on the tests leaves the teardown something to talk to.
            daemon = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
            daemons.append(daemon)
            if command is munged:
                _until(lambda: (folder / "munge.socket").exists(), folder, daemons)
        _until(lambda: _idle(variables), folder, daemons)
        yield environment
    finally:
        subprocess.run(
            ["scancel", "--full", "--signal=KILL", "--user=root"], env=variables, check=False, timeout=60
        )
        subprocess.run(["scancel", "--user=root"], env=variables, check=False, timeout=60)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and _output(["squeue", "--noheader"], variables):
            time.sleep(0.5)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            daemon.kill()
            daemon.wait()
        log.close()


def _idle(variables: dict[str, str]) -> bool:
    return "idle" in _output(["sinfo", "--noheader", "--format=%T"], variables)


def _output(command: list[str], variables: dict[str, str]) -> str:
    return subprocess.run(
        command, env=variables, capture_output=True, text=True, check=False, timeout=60
    ).stdout


def _until(holds: Callable[[], bool], folder: Path, daemons: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        ended = [daemon.args for daemon in daemons if daemon.poll() is not None]
        if ended or time.monotonic() > deadline:
            logs = "\n".join(
                file.read_text(errors="replace")[-2000:] for file in sorted(folder.glob("*.log"))
            )
            raise RuntimeError(f"Slurm did not start ({ended or 'too slow'}):\n{logs}")
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
