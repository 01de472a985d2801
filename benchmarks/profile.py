"""Time of the parts of a training step on CPU, and the rate of the matrix products.

    python -m benchmarks.profile --cores 2

XLA's profiler gives each instruction's time. The parts are products with weights, products of attention, the
rest of the gradient (softmax, activation, norms, copies, and the few instructions whose origin XLA lost), the
drawing of data, and the update, which begins with waiting for the other devices to average the gradient. Time
of no instruction counts as waiting. Rates are relative to a large NumPy product on these cores, measured in
turn.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

from benchmarks import common
from benchmarks.flops import product_worker
from benchmarks.trace import Instruction, Spent
from benchmarks.worker import Worker

COVLAB = "benchmarks.program:Covlab"
PARTS = ("products with weights", "products of attention", "rest of the gradient", "data", "update")


def part(instruction: Instruction) -> str:
    """The part, of PARTS, that an instruction belongs to.

    >>> part(Instruction("jit(run)/while/body/update/gradient/jvp()/exp", 0.0, False))
    'rest of the gradient'
    >>> part(Instruction("", 2.0, True))
    'products of attention'
    """
    if instruction.flops:
        return PARTS[1] if instruction.batched else PARTS[0]
    names = instruction.scope.split("/")
    if "data" in names:
        return "data"
    return "rest of the gradient" if "gradient" in names or "update" not in names else "update"


def shares(
    found: Mapping[str, Spent], known: Mapping[str, Instruction], seconds: float
) -> dict[str, tuple[float, float]]:
    """Share of `seconds` (of all devices together) and floating-point operations per second of each part and
    of "waiting".

    >>> known = {"a": Instruction("", 3e9, False), "b": Instruction("data/sort", 0.0, False)}
    >>> found = shares({"a": Spent(2, 4.0), "b": Spent(1, 1.0)}, known, 8.0)
    >>> found["products with weights"], found["data"], found["waiting"]
    ((0.5, 1500000000.0), (0.125, 0.0), (0.375, 0.0))
    """
    time: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    flops: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for name, own in found.items():
        time[part(known[name])] += own.seconds
        flops[part(known[name])] += own.runs * known[name].flops
    answer = {
        name: (time[name] / seconds, flops[name] / time[name] if flops[name] else 0.0) for name in PARTS
    }
    return answer | {"waiting": (1 - sum(time.values()) / seconds, 0.0)}


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write."""
    parser = common.parser("profile", "where a training step's time goes on CPU", repeats=5)
    parser.add_argument("--steps", type=common.positive, default=10, help="profiled together")
    parser.add_argument("--size", type=common.positive, default=2048, help="of NumPy's matrices")
    parser.add_argument("--top", type=common.positive, default=12, help="slowest instructions to list")
    options = parser.parse_args(arguments)
    cores = common.keep_to(options.cores)
    overrides = [*(common.TINY if options.tiny else ()), *options.overrides]
    size, steps = (64, 2) if options.tiny else (options.size, options.steps)
    rounds: list[dict[str, tuple[float, float]]] = []
    plain, numpy = [], []
    slowest = collections.Counter[str]()
    with (
        # Compiled here, because a cached program may have the names of an older one.
        Worker(COVLAB, {"COVLAB_CACHE": ""}, overrides=[*overrides, "seeds=1"]) as covlab,
        product_worker(size, cores, accelerator=False) as product,
    ):
        device = covlab.call("device")
        if device["platform"] != "cpu":
            raise common.UsageError(f"profile: reads the profile of a CPU; this is a {device['platform']}")
        known: dict[str, Instruction] = covlab.call("instructions")
        for worker in (covlab, product):
            worker.call("steps", 2)
        for _ in range(options.repeats):
            plain.append(covlab.seconds("steps", steps) / steps)
            numpy.append(2 * size**3 * 3 / product.seconds("steps", 3) / cores)
            wall, found = covlab.call("profile", steps, list(known))
            rounds.append(shares(found, known, wall * device["count"]))
            for name, own in found.items():
                slowest[name] += own.seconds / (wall * device["count"] * options.repeats)
    results: dict[str, dict[str, common.Summary]] = {}
    print(f"{common.summary([1e3 * value for value in plain])} ms a step, {device['count']} device(s)")
    print(f"{'':24}{'share of the time':>28}{'rate over that of NumPy':>28}")
    for name in (*PARTS, "waiting"):
        results[name] = {"share_of_time": common.summary([own[name][0] for own in rounds])}
        if all(own[name][1] for own in rounds):
            results[name]["share_of_product"] = common.ratio([own[name][1] for own in rounds], numpy)
        print(f"{name:24}" + "".join(f"{value!s:>28}" for value in results[name].values()))
    print("slowest instructions, share of the time:")
    for name, share in slowest.most_common(options.top):
        print(f"  {share:.3f}  {name:40}{part(known[name])}")
    record = {
        "parts": results,
        "milliseconds_a_step": common.summary([1e3 * value for value in plain]),
        "gflop_per_second_a_core_of_product": common.summary([value / 1e9 for value in numpy]),
        "slowest_instructions": dict(slowest.most_common(options.top)),
        "devices": device["count"],
    }
    common.write(options.out, "profile", arguments, cores, record)


if __name__ == "__main__":
    common.run(main)
