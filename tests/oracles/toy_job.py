"""Stand-in for a training command in tests of sweeps: `python -m toy_job seed=0`. No JAX, same protocol."""

import json
import os
import select
import sys
import time
from pathlib import Path


def main() -> None:
    """Behave as the seed says.

    1 is refused, 2 dies, 3 waits to be stopped and is complete the next time, 4 crashes, others are complete.
    """
    given = dict(text.split("=", 1) for text in sys.argv[1:] if "=" in text)
    seed, outcome = int(given["seed"]), Path(os.environ["COVLAB_SWEEP_JOB"])
    seen = {
        "seed": seed,
        "pid": os.getpid(),
        "cores": sorted(os.sched_getaffinity(0)),
        "arguments": sys.argv[1:],
        "searched_last": sys.path[-1],
    }
    seen |= {"began": time.monotonic()}
    status, reason = 0, ""
    if seed == 1:
        status, reason = 2, "seed: 1 is not wanted"
    elif seed == 2:
        os.kill(os.getpid(), 9)
    elif seed == 3 and not Path("waiting").exists():
        Path("waiting").touch()
        told = select.select([0], [], [], 60)[0]
        status, reason = 130, os.read(0, 100).decode().strip() if told else "never told"
    elif seed == 4:
        raise RuntimeError("without a word")
    else:
        time.sleep(0.3)
    Path(f"seen-{seed}.json").write_text(json.dumps(seen | {"ended": time.monotonic()}))
    outcome.write_text(json.dumps({"status": status, "reason": reason}))
    sys.exit(status)


main()
