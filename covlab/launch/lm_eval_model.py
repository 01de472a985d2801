"""A run of the lab as a model of lm-evaluation-harness, which has to be installed to import this module.

    python -m covlab.launch.lm_eval_model run --model covlab --tasks held_out --include_path tasks \\
        --model_args path=runs/train/demo,revision=train:300 --output_path out --log_samples

is lm-eval's own command with one more model, `covlab`. `covlab.launch.lm_eval_task` writes tasks.

lm-eval speaks in texts. A context is a prompt of the task, a continuation a response. Each is encoded by the
task alone, so that their tokens never merge and blanks between them do not count. A continuation is scored as
it stands: the end token has to be part of it. Nothing is truncated; a text that does not fit is refused.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from covlab.launch.base_model import of_seed
from covlab.launch.healthy import chosen_seeds, require_healthy
from covlab.launch.runtime import configure
from covlab.launch.trained import open_run
from models import Model, Params, token_log_probs
from models.target import platform
from tasks import PAD, categorical, check_seed, stream
from tasks.checks import real, whole
from tracking import LoadError
from training.precision import exact_products

_UNSUPPORTED = {
    "top_k": (None, 0, -1),
    "top_p": (None, 1),
    "num_beams": (None, 1),
    "repetition_penalty": (None, 1),
}
"""Settings of generation that would change the law, and the values at which they do not."""


@register_model("covlab")
class LabModel(LM):
    """A checkpoint of a run; the folder and `covlab select` name it by `path` and `revision`.

    Attributes:
        path: the run directory.
        revision: "last" or `<phase>:<step>`.
        seed: training seed whose model answers; None for the first that has not diverged.
        batch_size: requests scored at once.
        sampling_seed: seed of the stream (sampling_seed, "lm-eval", request) of sampled responses.
        rolling_prompt: the prompt of rolling log-likelihoods, whose texts are responses; None refuses them.
        max_batch_size, device: of lm-eval's command; not used.

    Raises:
        ValueError: no such run, checkpoint or seed; a number out of range.
    """

    def __init__(
        self,
        path: str | Path,
        revision: str = "last",
        seed: int | None = None,
        batch_size: int | str = 64,
        sampling_seed: int = 0,
        rolling_prompt: str | None = None,
        max_batch_size: Any = None,
        device: Any = None,
    ) -> None:
        super().__init__()
        configure()
        run = open_run(path)
        phase, step = run.checkpoints([revision])[-1]
        healthy = run.healthy_seeds(phase, step)
        found = [
            each for each in chosen_seeds("all" if seed is None else seed, run.setup.seeds) if each in healthy
        ]
        require_healthy(run.path, phase, step, found, "seed")
        self.task, self.model = run.task(phase, {}), run.model
        self.params = of_seed(run.parameters(phase, step), run.setup.seeds.index(found[0]))
        text = str(batch_size)
        self.batch_size = whole("batch_size", int(text) if text.isdecimal() else batch_size, 1)
        self.sampling_seed = check_seed("sampling_seed", sampling_seed)
        self.rolling_prompt = rolling_prompt
        self.drawn = 0

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """(ln pi(y|x) in nats, True if each token is the likeliest) of (context, continuation) pairs."""
        return self._scored([request.args for request in requests])

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """ln pi(y|x) in nats of texts y as responses to x = `rolling_prompt`: prompts have no probability.

        Raises:
            ValueError: there is no `rolling_prompt`.
        """
        if self.rolling_prompt is None:
            raise LoadError(
                "rolling_prompt: None: the model has no probability of a prompt; valid: "
                "rolling_prompt=<prompt>, to which the texts are responses"
            )
        return [
            score for score, _ in self._scored([(self.rolling_prompt, each.args[0]) for each in requests])
        ]

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """Responses to contexts, up to the end token, whose text is part of them, or a text of `until`.

        They are drawn with `do_sample` or a `temperature` above 0, and greedy otherwise. Equal requests are
        drawn independently of each other.

        Raises:
            ValueError: a setting of generation that the model does not have.
        """
        texts: list[str] = []
        settings = [_generation(request.args[1]) for request in requests]
        for rows in _batches(len(requests), self.batch_size):
            prompts = np.stack([self._prompt(requests[i].args[0]) for i in rows])
            temperatures = np.array([settings[i].temperature for i in rows], np.float32)
            key = stream(self.sampling_seed, "lm-eval", self.drawn)
            self.drawn += 1
            tokens = np.asarray(_respond(self.model, self.params, prompts, prompts != PAD, key, temperatures))
            texts += [self._text(own, settings[i]) for i, own in zip(rows, tokens, strict=True)]
        return texts[: len(requests)]

    def _scored(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        scored: list[tuple[float, bool]] = []
        for rows in _batches(len(pairs), self.batch_size):
            prompts = np.stack([self._prompt(pairs[i][0]) for i in rows])
            responses = np.stack([self._response(pairs[i][1]) for i in rows])
            found = _score(self.model, self.params, prompts, prompts != PAD, responses, responses != PAD)
            scored += zip(*(np.asarray(each).tolist() for each in found), strict=True)
        return scored[: len(pairs)]

    def _prompt(self, text: str) -> Int[np.ndarray, " prompt"]:
        return _padded("context", text, self.task.encode(text), self.task.prompt_length, left=True)

    def _response(self, text: str) -> Int[np.ndarray, " response"]:
        tokens = self.task.encode(text)
        if unknown := sorted(set(tokens) - set(self.task.response_tokens)):
            raise LoadError(
                f"continuation: {text!r} has {self.task.decode(unknown[:1])!r}; valid: tokens of a response"
            )
        end = self.task.end_token
        if end in tokens[:-1]:
            raise LoadError(f"continuation: {text!r} goes on after its end token")
        return _padded("continuation", text, tokens, self.task.response_length, left=False)

    def _text(self, tokens: Int[np.ndarray, " response"], settings: Generation) -> str:
        ended = np.cumsum(tokens == (-1 if self.task.end_token is None else self.task.end_token))
        # The end token itself is kept. Padding has no text, and without what follows it no wrong response
        # reads like a right one.
        kept = np.concatenate([[True], ended[:-1] == 0]) & (np.cumsum(tokens == PAD) == 0)
        text = self.task.decode(tokens[kept][: settings.most])
        return min((text.partition(until)[0] for until in settings.until), key=len, default=text)


class Generation(NamedTuple):
    """Settings of a request: temperature 0 is greedy; `most` tokens at most, None for no limit."""

    temperature: float
    until: tuple[str, ...]
    most: int | None


def _generation(given: Mapping[str, Any]) -> Generation:
    for name, valid in _UNSUPPORTED.items():
        if given.get(name) not in valid:
            raise LoadError(
                f"{name}: {given[name]!r}; valid: none, since responses are drawn from pi(y|x) itself"
            )
    until = given.get("until") or ()
    most = given.get("max_gen_toks")
    # As in Hugging Face's generate: without do_sample the temperature does not count.
    temperature = given.get("temperature", 1.0) if given.get("do_sample") else 0.0
    return Generation(
        real("temperature", temperature, least=0),
        (until,) if isinstance(until, str) else tuple(until),
        None if most is None else whole("max_gen_toks", most, 1),
    )


def _batches(total: int, size: int) -> Iterator[list[int]]:
    """Indices of the batches, all of one size: repetitions of the last index fill the last one."""
    for start in range(0, total, size):
        yield [min(i, total - 1) for i in range(start, start + size)]


def _padded(
    field: str, text: str, tokens: Sequence[int], length: int, left: bool
) -> Int[np.ndarray, " length"]:
    if not 0 < len(tokens) <= length:
        raise LoadError(
            f"{field}: {text!r} has {len(tokens)} tokens; valid: 1 to {length}, nothing is cut off"
        )
    row = np.full(length, PAD, np.int32)
    row[length - len(tokens) if left else 0 :][: len(tokens)] = tokens
    return row


@functools.partial(jax.jit, static_argnames="model")
def _score(
    model: Model,
    params: Params,
    prompt: Int[Array, "batch prompt"],
    prompt_mask: Bool[Array, "batch prompt"],
    response: Int[Array, "batch response"],
    response_mask: Bool[Array, "batch response"],
) -> tuple[Float[Array, " batch"], Bool[Array, " batch"]]:
    """ln pi(y|x) in nats, and whether every token is the most likely one, the first of several."""
    with exact_products(platform()):
        logits = model.logits(params, prompt, prompt_mask, response[:, None])[:, 0]
    scores = jnp.where(response_mask, token_log_probs(logits, response), 0.0)
    greedy = (jnp.argmax(logits, axis=-1) == response) | ~response_mask
    return jnp.sum(scores, axis=-1), jnp.all(greedy, axis=-1)


@functools.partial(jax.jit, static_argnames="model")
def _respond(
    model: Model,
    params: Params,
    prompt: Int[Array, "batch prompt"],
    prompt_mask: Bool[Array, "batch prompt"],
    key: PRNGKeyArray,
    temperature: Float[Array, " batch"],
) -> Int[Array, "batch response"]:
    """A response per prompt: drawn, or at temperature 0 the most likely token, the first of several."""

    def step(carry: tuple[Any, Array], position: Array) -> tuple[tuple[Any, Array], Array]:
        cache, tokens = carry
        logits, cache = model.step(params, cache, tokens, position)
        drawn = categorical(
            jax.random.fold_in(key, position), logits / jnp.maximum(temperature, 1e-6)[:, None, None]
        )
        tokens = jnp.where(temperature[:, None] > 0, drawn, jnp.argmax(logits, axis=-1).astype(drawn.dtype))
        return (cache, tokens), tokens[:, 0]

    with exact_products(platform()):
        start = (model.start(params, prompt, prompt_mask, 1), prompt[:, -1:])
        return jax.lax.scan(step, start, jnp.arange(model.response_length))[1].T


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
