"""Responses of a trained run as a data frame."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
from jaxtyping import Array, PRNGKeyArray

from covlab.launch.base_model import of_seed
from covlab.launch.healthy import chosen_seeds, require_healthy
from covlab.launch.trained import TrainedRun
from decoding import sample_responses
from experiments.show import draw_examples
from models import Params
from models.target import platform
from tasks import PAD, Example, Task, check_seed, stream
from tasks.checks import real, whole
from training.precision import exact_products
from training.table import draw_responses, score_responses


def sample(
    run: TrainedRun,
    prompts: int | str | Sequence[str] | Example,
    num_samples: int,
    checkpoint: str,
    seed: int | None,
    temperature: float,
    sampling_seed: int,
) -> pd.DataFrame:
    """`covlab.api.results.Run.sample` of an opened run.

    Raises:
        ValueError: an invalid number, checkpoint, seed or text; one line.
    """
    whole("num_samples", num_samples, 1)
    real("temperature", temperature, above=0)
    check_seed("sampling_seed", sampling_seed)
    phase, step = run.checkpoints([checkpoint])[-1]
    seed = _healthy_seed(run, phase, step, seed)
    task, model = run.task(phase, {}), run.model
    params = of_seed(run.parameters(phase, step), run.setup.seeds.index(seed))
    key = stream(sampling_seed, "sample", seed)
    if not isinstance(prompts, int | Example):
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        return _of_texts(run, task, params, texts, key, num_samples, temperature)
    if isinstance(prompts, int):
        prompts = draw_examples(task, whole("prompts", prompts, 1), sampling_seed)
    drawn = draw_responses(model, task, params, prompts, key, num_samples, temperature)
    log_pi = np.asarray(_log_pi(task, prompts.latent, drawn.responses))
    groups, tokens = np.asarray(prompts.group), np.asarray(prompts.prompt)
    return pd.DataFrame(
        {
            "prompt": task.decode(tokens[i]),
            "class": task.groups[int(groups[i])],
            "response": task.decode(drawn.responses[i, s]),
            "log_prob": float(drawn.log_probs[i, s]),
            "log_pi": float(log_pi[i, s]),
            "reward": float(drawn.rewards[i, s]),
            "valid": bool(drawn.valid[i, s]),
        }
        for i, s in np.ndindex(*log_pi.shape)
    )


@functools.partial(jax.jit, static_argnames="task")
def _log_pi(task: Task, latents: Any, responses: Array) -> Array:
    """ln pi_D(y|x) in nats of several responses per prompt."""
    return jax.vmap(jax.vmap(task.log_prob, in_axes=(None, 0)))(latents, responses)


def _healthy_seed(run: TrainedRun, phase: str, step: int, asked: int | None) -> int:
    """The seed `asked`, or the first that had not diverged at a checkpoint."""
    wanted = chosen_seeds("all" if asked is None else asked, run.setup.seeds)
    healthy = [seed for seed in wanted if seed in run.healthy_seeds(phase, step)]
    require_healthy(run.path, phase, step, healthy, "seed")
    return healthy[0]


def _of_texts(
    run: TrainedRun,
    task: Task,
    params: Params,
    prompts: Sequence[str],
    key: PRNGKeyArray,
    num_samples: int,
    temperature: float,
) -> pd.DataFrame:
    """Responses to prompts of which nothing but the text is known."""
    model = run.model
    prompt = np.full((len(prompts), task.prompt_length), PAD, np.int32)
    for row, text in zip(prompt, prompts, strict=True):
        tokens = task.encode(text)
        if not 0 < len(tokens) <= task.prompt_length:
            raise ValueError(f"prompts: {text!r} has {len(tokens)} tokens; valid: 1 to {task.prompt_length}")
        row[-len(tokens) :] = tokens
    mask = prompt != PAD
    with exact_products(platform()):
        samples = np.asarray(sample_responses(model, params, prompt, mask, key, num_samples, temperature)[0])
    ends = samples == (-1 if task.end_token is None else task.end_token)
    kept = np.cumsum(ends, axis=-1) - ends == 0
    samples = np.where(kept, samples, PAD)
    log_probs = np.asarray(score_responses(model, params, prompt, mask, samples, kept))
    return pd.DataFrame(
        {"prompt": prompts[i], "response": task.decode(samples[i, s]), "log_prob": float(log_probs[i, s])}
        for i, s in np.ndindex(*log_probs.shape)
    )
