"""Share of the floating-point rate of a large matrix product that training reaches.

    python -m benchmarks.flops --cores 2
    python -m benchmarks.flops --size 8192 --target h200 experiment=figure1_paper    # on a GPU

The product is NumPy's of float32 on CPU, with one thread per core, and JAX's on an accelerator, of the dtype
that training computes in. Training and product run in turn. Only the unavoidable multiplications and
additions of matrix products are counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np

from benchmarks import common
from benchmarks.problem import Problem
from benchmarks.worker import Worker, steps_in_turn
from covlab.plan.flops import necessary_flops
from covlab.plan.target import known_chips, target_of

COVLAB = "benchmarks.program:Covlab"


def flops_of(problem: Problem, full_attention: bool = False) -> float:
    """`necessary_flops` of a step of the problem."""
    return necessary_flops(
        problem.prompt_length,
        problem.response_length,
        problem.width,
        problem.mlp_ratio,
        problem.vocab_size,
        problem.num_layers,
        len(problem.batches[0]["prompt"]),
        full_attention,
    )


class Product:
    """A repeated product of two square matrices, on an accelerator of `dtype`."""

    def __init__(self, size: int, accelerator: bool, dtype: str = "float32") -> None:
        left, right = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
        if accelerator:
            import jax
            import jax.numpy as jnp

            arrays = jax.device_put((jnp.asarray(left, dtype), jnp.asarray(right, dtype)))
            product = jax.jit(jnp.matmul)
            self.multiply = lambda: product(*arrays)
            self.wait = jax.block_until_ready
        else:
            out = np.empty_like(left)
            self.multiply = lambda: np.matmul(left, right, out=out)
            self.wait = lambda value: value

    def steps(self, count: int) -> None:
        """Multiply `count` times."""
        for _ in range(count):
            done = self.multiply()
        self.wait(done)


def product_worker(size: int, cores: int, accelerator: bool, dtype: str = "float32") -> Worker:
    """A `Product` in a separate process, with one thread per core."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(cores))
    return Worker("benchmarks.flops:Product", threads, size=size, accelerator=accelerator, dtype=dtype)


def main(arguments: Sequence[str]) -> None:
    """Time, print, write."""
    parser = common.parser("flops", "share of the rate of a large matrix product", repeats=15)
    parser.add_argument("--size", type=common.positive, default=2048, help="rows and columns of the matrices")
    parser.add_argument("--seeds", type=common.positive, help="seeds of the second row (default: 4 a core)")
    parser.add_argument("--target", choices=known_chips(), help="chip of `covlab plan`, for its peak")
    options = parser.parse_args(arguments)
    cores = common.keep_to(options.cores)
    seeds = options.seeds or 4 * cores
    overrides = [*(common.TINY if options.tiny else ()), *options.overrides]
    size, seconds = (64, 0.01) if options.tiny else (options.size, 1.0)
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(Worker(COVLAB, overrides=[*overrides, "seeds=1"]))
        problem, cost, device = one.call("problem", 1), one.call("cost"), one.call("device")
        accelerator = device["platform"] != "cpu"
        many = stack.enter_context(Worker(COVLAB, overrides=[*overrides, f"seeds={seeds}"]))
        devices = many.call("device")["count"]
        dtype = device["dtype"] if accelerator else "float32"
        product = stack.enter_context(product_worker(size, cores, accelerator, dtype))
        needed = flops_of(problem)
        work = {"one seed": needed, f"{seeds} seeds": seeds * needed, "product": 2 * size**3}
        workers = dict(zip(work, (one, many, product), strict=True))
        times, _ = steps_in_turn(workers, seconds, options.repeats)
        peaks = {
            name: worker.call("device")["peak_bytes"] for name, worker in workers.items() if name != "product"
        }
    rates = {name: [work[name] / value for value in values] for name, values in times.items()}
    shares = {name: common.ratio(rates[name], rates["product"]) for name in work if name != "product"}
    whole = flops_of(problem, full_attention=True)
    print(
        f"{needed / 1e9:.3f} GFLOP a step and seed are necessary, {whole / 1e9:.3f} with the masked half of "
        f"attention; XLA counts {cost['flops'] / 1e9:.3f} for everything in its program"
    )
    print(f"{'':12}{'GFLOP/s':>28}{'share of the product':>28}{'ms':>28}{'share of the peak':>28}")
    peak = target_of(options.target).chip.peak[dtype] if options.target else None
    milliseconds = {name: common.summary([1e3 * value for value in values]) for name, values in times.items()}
    of_peak = (
        {name: common.summary([v / peak for v in values]) for name, values in rates.items()} if peak else {}
    )
    for name, values in rates.items():
        rate = common.summary([value / 1e9 for value in values])
        row = (rate, shares.get(name, ""), milliseconds[name], of_peak.get(name, ""))
        print(f"{name:12}" + "".join(f"{cell!s:>28}" for cell in row))
    results = {
        "share_of_product": shares,
        "gflop_per_second": {
            name: common.summary([v / 1e9 for v in values]) for name, values in rates.items()
        },
        "necessary_gflop_a_step_and_seed": needed / 1e9,
        "with_masked_attention_gflop": whole / 1e9,
        "xla_gflop": cost["flops"] / 1e9,
        "milliseconds_a_step": milliseconds,
        "share_of_peak": of_peak,
        "peak_bytes_in_use": peaks,
        "product": {
            "size": size,
            "threads": cores,
            "library": "jax" if accelerator else "numpy",
            "dtype": dtype,
        },
        "device": device,
        "devices_of_many_seeds": devices,
    }
    common.write(
        options.out, "flops" if not accelerator else f"flops_{device['platform']}", arguments, cores, results
    )


if __name__ == "__main__":
    common.run(main)
