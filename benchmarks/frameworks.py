"""Training steps per second of covlab against equivalent PyTorch and Flax loops on the same problem.

    python -m benchmarks.frameworks --cores 2

Before anything is timed, every loop must reproduce covlab's loss and gradient on one batch and covlab's
losses over the first updates, to a relative error of 1e-4. The other loops read batches from memory. covlab
is timed with the generation of data inside the step, and without. A short separate timing chooses the best of
several settings of each family.

On a GPU all loops are on it, and a family's settings are those that matter there. `--precision bfloat16`
trains with activations in bfloat16 and parameters in float32: torch.autocast, Flax's `dtype`, covlab's
`precision`. Losses and gradients are then compared at the accuracy of bfloat16.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.worker import Worker, pace, steps_in_turn

COVLAB, TORCH, FLAX = (
    "benchmarks.program:Covlab",
    "benchmarks.torch_loop:TorchLoop",
    "benchmarks.flax_loop:FlaxLoop",
)
TOLERANCES = {"highest": 1e-4, "bfloat16": 0.1}
"""Largest relative error of a loss and its gradient, by the precision of training. bfloat16 has 8 bits, and
each framework rounds at other places."""
BATCHES = 16
UPDATES = 10

KEEP_PAGES = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
"""Settings with which glibc's allocator keeps freed memory instead of returning it after every step."""

EAGER: tuple[dict[str, Any], ...] = (
    {},
    {"environment": KEEP_PAGES},
    {"optimizer": "foreach"},
    {"layout": "left"},
    {"attention": "math"},
    {"attention": "math", "environment": KEEP_PAGES},
)
COMPILED: tuple[dict[str, Any], ...] = (
    {"compiled": "default"},
    {"compiled": "default", "environment": KEEP_PAGES},
    {"compiled": "default", "layout": "left"},
    {"compiled": "default", "attention": "math"},
    {"compiled": "max-autotune-no-cudagraphs"},
)

ON_A_GPU: dict[str, tuple[dict[str, Any], ...]] = {
    "torch_eager": ({}, {"layout": "left"}),
    "torch_compiled": ({"compiled": "default"}, {"compiled": "reduce-overhead"}),
    "torch_eager_skip": ({"skip_unused": True},),
    "torch_compiled_skip": ({"compiled": "reduce-overhead", "skip_unused": True},),
    "flax": ({"layout": "right"},),
}
"""Settings to choose from on a GPU, where allocator and threads of the host do not matter."""

FAMILIES: dict[str, tuple[str, str, tuple[dict[str, Any], ...]]] = {
    "torch_eager": ("torch", TORCH, EAGER),
    "torch_compiled": ("torch", TORCH, COMPILED),
    "torch_eager_skip": ("torch", TORCH, tuple(setting | {"skip_unused": True} for setting in EAGER)),
    "torch_compiled_skip": ("torch", TORCH, tuple(setting | {"skip_unused": True} for setting in COMPILED)),
    "flax": ("flax", FLAX, ({"layout": "right"}, {"layout": "left"})),
}
"""Name -> package, loop, settings to choose from. `skip` omits the last layer's outputs at prompt positions,
as covlab does."""


def same(
    name: str,
    expected: tuple[float, Mapping[str, np.ndarray]],
    found: tuple[float, Mapping[str, np.ndarray]],
    tolerance: float = TOLERANCES["highest"],
) -> float:
    """The largest relative error of a loss and its gradient; of a gradient's leaf, over its largest entry.

    Raises:
        UsageError: the error exceeds `tolerance`, or the leaves differ.
    """
    if expected[1].keys() != found[1].keys():
        raise common.UsageError(
            f"{name}: parameters {sorted(expected[1].keys() ^ found[1].keys())} are in one of two only"
        )
    errors = {"loss": abs(found[0] - expected[0]) / abs(expected[0])}
    for leaf, gradient in expected[1].items():
        if gradient.shape != found[1][leaf].shape:
            raise common.UsageError(
                f"{name}: {leaf} has shape {found[1][leaf].shape}, expected {gradient.shape}"
            )
        errors[leaf] = float(np.max(np.abs(found[1][leaf] - gradient)) / np.max(np.abs(gradient)))
    # NaN is the worst error, but compares false.
    worst = max(errors, key=lambda key: (np.isnan(errors[key]), errors[key]))
    if not errors[worst] <= tolerance:
        raise common.UsageError(
            f"{name}: not the same problem: {worst} differs by {errors[worst]:.2g}, at most {tolerance}"
        )
    return errors[worst]


def check(name: str, covlab: tuple[Any, list[float]], worker: Worker, tolerance: float) -> float:
    """The largest error of `worker`'s loss, gradient and first losses against covlab's; see `same`."""
    error = same(name, covlab[0], worker.call("loss_and_gradient"), tolerance)
    losses = worker.call("losses", len(covlab[1]))
    drift = float(np.max(np.abs(np.divide(losses, covlab[1]) - 1)))
    if not drift <= tolerance:
        raise common.UsageError(
            f"{name}: not the same optimizer: losses of the first updates differ by {drift:.2g}"
        )
    return max(error, drift)


def best(
    name: str,
    problem: Any,
    covlab: tuple[Any, list[float]],
    cores: int,
    seconds: float,
    tiny: bool,
    precision: str = "highest",
    on_a_gpu: bool = False,
) -> tuple[Worker, dict[str, Any], float, dict[str, float]]:
    """The fastest setting of a family: worker, setting, error, and milliseconds per step of all settings."""
    _, target, settings = FAMILIES[name]
    if on_a_gpu:
        settings = ON_A_GPU[name]
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    kept: tuple[Worker, dict[str, Any], float] | None = None
    fastest, tried = np.inf, {}
    for setting in settings[:1] if tiny else settings:
        arguments = {key: value for key, value in setting.items() if key != "environment"}
        arguments |= {"problem": problem, "dtype": dtype}
        if target == TORCH:
            arguments |= {"threads": cores, "device": "cuda" if on_a_gpu else "cpu"}
        worker = Worker(target, setting.get("environment"), **arguments)
        label = (
            ", ".join(f"{k}={'keep pages' if k == 'environment' else v}" for k, v in setting.items())
            or "plain"
        )
        try:
            error = check(f"{name} ({label})", covlab, worker, TOLERANCES[precision])
            count = pace(worker, seconds / 2)
            taken = min(worker.seconds("steps", count) / count for _ in range(3))
        except BaseException:
            worker.close()
            if kept:
                kept[0].close()
            raise
        tried[label] = 1e3 * taken
        print(f"  {name}, {label}: {1e3 * taken:.1f} ms a step; error against covlab {error:.1g}", flush=True)
        if taken < fastest:
            if kept:
                kept[0].close()
            kept, fastest = (worker, dict(setting), error), taken
        else:
            worker.close()
    assert kept is not None
    return *kept, tried


def compare(
    overrides: Sequence[str],
    names: Sequence[str],
    cores: int,
    repeats: int,
    seconds: float,
    tiny: bool,
    precision: str = "highest",
) -> dict[str, Any]:
    """Times of all contenders, and ratios to covlab's time."""
    overrides = [f"precision={precision}", *overrides, "seeds=1"]
    with contextlib.ExitStack() as stack:
        inside = stack.enter_context(Worker(COVLAB, overrides=overrides))
        problem, device = inside.call("problem", BATCHES), inside.call("device")
        on_a_gpu = device["platform"] == "gpu"
        reference = (inside.call("loss_and_gradient"), inside.call("losses", UPDATES))
        workers = {"covlab": inside}
        about: dict[str, Any] = {}
        for name in names:
            worker, setting, error, tried = best(
                name, problem, reference, cores, seconds, tiny, precision, on_a_gpu
            )
            workers[name] = stack.enter_context(worker)
            about[name] = {"setting": setting, "error": error, "milliseconds_of_settings": tried}
        drawn = BATCHES * len(problem.batches[0]["prompt"])
        workers["covlab_drawn"] = stack.enter_context(Worker(COVLAB, overrides=overrides, drawn=drawn))
        times, counts = steps_in_turn(workers, seconds, repeats)
    others = [name for name in times if not name.startswith("covlab")]
    return {
        "steps_per_second": {
            name: common.summary([1 / value for value in values]) for name, values in times.items()
        },
        "covlab_over": {name: common.ratio(times[name], times["covlab"]) for name in others},
        "covlab_drawn_over": {name: common.ratio(times[name], times["covlab_drawn"]) for name in others},
        "steps_a_round": counts,
        "contenders": about,
        "precision": precision,
        "device": device,
        "batch": [*problem.batches[0]["prompt"].shape, problem.response_length],
    }


def main(arguments: Sequence[str]) -> None:
    """Compare, print, write."""
    parser = common.parser("frameworks", "training steps per second against PyTorch and Flax", repeats=15)
    parser.add_argument(
        "--against", nargs="+", choices=list(FAMILIES), default=list(FAMILIES), help="contenders"
    )
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="about how long one contender trains in a round"
    )
    parser.add_argument(
        "--precision", choices=list(TOLERANCES), default="highest", help="of training, in every framework"
    )
    options = parser.parse_args(arguments)
    if not options.seconds > 0:
        raise common.UsageError(f"--seconds: {options.seconds} is not a positive number")
    for package in sorted({FAMILIES[name][0] for name in options.against}):
        if importlib.util.find_spec(package) is None:
            raise common.UsageError(
                f"--against: {package} is not installed; `make bench` makes an environment with it"
            )
    cores = common.keep_to(options.cores)
    overrides = [*(common.TINY if options.tiny else ()), *options.overrides]
    seconds = 0.02 if options.tiny else options.seconds
    results = compare(
        overrides, options.against, cores, options.repeats, seconds, options.tiny, options.precision
    )
    print(f"{'':22}{'steps per second':>28}{'covlab over it':>24}{'covlab without data over it':>32}")
    for name, rate in results["steps_per_second"].items():
        ratios = [str(results[key].get(name, "")) for key in ("covlab_over", "covlab_drawn_over")]
        print(f"{name:22}{rate!s:>28}{ratios[0]:>24}{ratios[1]:>32}")
    kinds = ("gpu" if results["device"]["platform"] == "gpu" else "", options.precision)
    suffix = "".join(f"_{kind}" for kind in kinds if kind not in ("", "highest"))
    common.write(options.out, f"frameworks{suffix}", arguments, cores, results)


if __name__ == "__main__":
    common.run(main)
