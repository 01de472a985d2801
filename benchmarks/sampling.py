"""Sampling with a cache against recomputing: python -m benchmarks.sampling --cores 2.

Samples that share the prompt's cache are also compared with repeated prompts.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from benchmarks import common
from decoding import sample_responses
from models import Model, Params, sequence_log_probs
from tasks import Example, categorical, stream

TOLERANCE = 1e-4


@functools.partial(jax.jit, static_argnames=("model", "num_samples"))
def recompute(
    model: Model, params: Params, example: Example, key: Array, num_samples: int
) -> tuple[Int[Array, "batch samples response"], Float[Array, "batch samples"]]:
    """Samples with ln pi(y|x), from a whole forward pass for every token."""
    shape = (example.prompt.shape[0], num_samples)

    def step(position: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        tokens, log_probs = carry
        logits = model.logits(params, example.prompt, example.prompt_mask, tokens)
        scores = jax.nn.log_softmax(jax.lax.dynamic_index_in_dim(logits, position, axis=2, keepdims=False))
        drawn = categorical(jax.random.fold_in(key, position), scores)
        log_probs += jnp.take_along_axis(scores, drawn[..., None], axis=-1)[..., 0]
        return tokens.at[:, :, position].set(drawn), log_probs

    empty = jnp.zeros((*shape, model.response_length), jnp.int32)
    return jax.lax.fori_loop(0, model.response_length, step, (empty, jnp.zeros(shape)))


class Sampling:
    """Methods of sampling `num_samples` responses to `num_prompts` prompts, from a model at its initial
    parameters.

    Args:
        overrides: overrides of conf/train.yaml.
        num_prompts: prompts sampled at a time.
        num_samples: responses per prompt.
    """

    def __init__(self, overrides: Sequence[str], num_prompts: int, num_samples: int) -> None:
        from benchmarks.program import setup_of
        from covlab.launch.runtime import configure

        configure(1, 1)
        setup = setup_of(overrides)
        self.model, self.num_samples = setup.model, num_samples
        self.params = setup.model.init(stream(0))
        keys = jax.random.split(stream(1), num_prompts)
        self.example: Example = jax.jit(jax.vmap(setup.phases[0].task.sample))(keys)
        self.repeated: Example = jax.tree.map(lambda a: jnp.repeat(a, num_samples, axis=0), self.example)
        self.key = stream(2)

    def check(self) -> float:
        """The largest relative error of any method's ln pi(y|x) against teacher forcing.

        Raises:
            UsageError: the error exceeds the tolerance.
        """
        worst = 0.0
        prompts = self.example.prompt, self.example.prompt_mask
        for way in (self.cached, self.recomputed, self.separate):
            responses, log_probs = (a.reshape(len(prompts[0]), self.num_samples, *a.shape[2:]) for a in way())
            forced = sequence_log_probs(
                self.model, self.params, *prompts, responses, jnp.ones(responses.shape, bool)
            )
            worst = max(worst, float(jnp.max(jnp.abs(log_probs / forced - 1))))
        if not worst <= TOLERANCE:
            raise common.UsageError(f"sampling: ln pi(y|x) differs from teacher forcing by {worst:.2g}")
        return worst

    def cached(self) -> Any:
        """covlab's method: one cache of the prompt for all samples."""
        sampled = sample_responses(self.model, self.params, *self.example[:2], self.key, self.num_samples)
        return jax.block_until_ready(sampled)

    def separate(self) -> Any:
        """The prompt repeated for every sample, with separate caches."""
        return jax.block_until_ready(
            sample_responses(self.model, self.params, *self.repeated[:2], self.key, 1)
        )

    def recomputed(self) -> Any:
        """The whole sequence recomputed for each token."""
        return jax.block_until_ready(
            recompute(self.model, self.params, self.example, self.key, self.num_samples)
        )

    @property
    def tokens(self) -> int:
        """Number of tokens sampled per call."""
        return self.example.prompt.shape[0] * self.num_samples * self.model.response_length


def main(arguments: Sequence[str]) -> None:
    """Time, print, write."""
    parser = common.parser("sampling", "sampling with a cache against recomputing", repeats=11)
    parser.add_argument("--prompts", type=common.positive, default=8)
    parser.add_argument("--samples", type=common.positive, default=64, help="responses of each prompt")
    options = parser.parse_args(arguments)
    cores = common.keep_to(options.cores)
    prompts, samples = (4, 3) if options.tiny else (options.prompts, options.samples)
    sampling = Sampling([*(common.TINY if options.tiny else ()), *options.overrides], prompts, samples)
    error = sampling.check()

    def timed(name: str) -> float:
        began = time.perf_counter()
        getattr(sampling, name)()
        return time.perf_counter() - began

    ways = ("cached", "recomputed", "separate")
    times = common.in_turn({name: functools.partial(timed, name) for name in ways}, options.repeats)
    rates = {
        name: common.summary([sampling.tokens / value for value in values]) for name, values in times.items()
    }
    ratios = {name: common.ratio(times[name], times["cached"]) for name in ways if name != "cached"}
    print(f"{prompts} prompts, {samples} samples each; ln pi(y|x) agrees to {error:.1g}")
    for name, rate in rates.items():
        print(f"{name:12} {rate} tokens a second; the cache is {ratios.get(name, 1)} times as fast")
    results = {
        "tokens_per_second": rates,
        "cached_over": ratios,
        "prompts": prompts,
        "samples": samples,
        "error": error,
    }
    common.write(options.out, "sampling", arguments, cores, results)


if __name__ == "__main__":
    common.run(main)
