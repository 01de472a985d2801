"""An autoregressive linear model behind the `Model` seam: trained and sampled like a transformer."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models.base import Model
from tasks import Task
from tasks.checks import real
from tasks.linear import FeatureMap

Params = dict[str, Any]


class Paths(NamedTuple):
    """Decoding cache of a linear model: numbers of the prompts, and the tokens of every sample so far."""

    prompt: Int[Array, " batch"]
    tokens: Int[Array, "batch samples response"]


@dataclasses.dataclass(frozen=True)
class Linear(Model):
    """pi_theta(a | x, y_1:h) = exp<theta, phi(x, (y_1:h, a))> / sum_b exp<theta, phi(x, (y_1:h, b))>.

    Attributes:
        vocab_size, prompt_length, response_length: set from the task.
        init_radius: theta starts uniformly in the ball of this radius; 0 starts at 0, the uniform law.
        phi: the feature map, which `for_task` takes from the task. It is not a setting.

    Parameters are {"theta": (d,)}. Tokens that are not response tokens have probability 0. Only the optimizer
    keeps theta in the unit ball of the theorems (`optimizer.radius=1`).

    Source: Coverage Principle, arXiv 2510.15020, section 5.
    """

    vocab_size: int
    prompt_length: int
    response_length: int
    init_radius: float = 0.0
    # A default factory hides the field from the configuration.
    phi: FeatureMap | None = dataclasses.field(default_factory=lambda: None)

    def __post_init__(self) -> None:
        real("model.init_radius", self.init_radius, least=0)
        if self.phi is not None and not isinstance(self.phi, FeatureMap):
            raise ValueError(f"model.phi: {self.phi!r} is no setting; linear has its task's")

    def for_task(self, task: Task) -> Linear:
        """This model with the features of the task.

        Raises:
            ValueError: the task has no features, or features other than this model's.
        """
        if task.features is None:
            raise ValueError(
                f"model: linear takes its features from the task, and {type(task).__name__} has none; valid: "
                f"task=autoregressive_linear, or a gpt"
            )
        if self.phi not in (None, task.features):
            raise ValueError(
                f"model: linear was made for the features {self.phi}; the task has {task.features}"
            )
        return dataclasses.replace(self, phi=task.features)

    @property
    def _map(self) -> FeatureMap:
        if self.phi is None:
            raise ValueError("model: linear has no features yet; valid: model.for_task(task)")
        return self.phi

    def init(self, key: PRNGKeyArray) -> Params:
        """theta uniform in the ball of `init_radius`."""
        size = self._map.dimension
        if self.init_radius == 0:
            return {"theta": jnp.zeros((size,))}
        direction_key, radius_key = jax.random.split(key)
        direction = jax.random.normal(direction_key, (size,))
        radius = self.init_radius * jax.random.uniform(radius_key) ** (1 / size)
        return {"theta": radius * direction / jnp.linalg.norm(direction)}

    def logits(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response vocab"]:
        """<theta, phi> of every token at every prefix, -inf for tokens that are not response tokens."""
        tokens = self._symbols(responses)

        def one(number: Array, response: Array) -> Array:
            return self._map.path(number, response) @ params["theta"]

        return self._spread(jax.vmap(jax.vmap(one, (None, 0)))(self._numbers(prompt), tokens))

    def prompt_logits(
        self, params: Params, prompt: Int[Array, "batch prompt"], prompt_mask: Bool[Array, "batch prompt"]
    ) -> Float[Array, "batch prompt_1 vocab"]:
        """Empty array: a prompt is one token, and no prompt token follows it.

        Raises:
            ValueError: the prompts have several tokens, of which a linear model has no law.
        """
        if prompt.shape[1] > 1:
            raise ValueError(
                f"model: linear has no law of the prompt's {prompt.shape[1]} tokens; valid: an objective "
                f"that scores responses only (objective.prompt_weight=0)"
            )
        return jnp.zeros((prompt.shape[0], 0, self.vocab_size))

    def start(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        num_samples: int,
    ) -> Paths:
        """Empty paths."""
        shape = (prompt.shape[0], num_samples, self.response_length)
        return Paths(self._numbers(prompt), jnp.zeros(shape, jnp.int32))

    def step(
        self,
        params: Params,
        cache: Paths,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, "*batch_samples"],
    ) -> tuple[Float[Array, "batch samples vocab"], Paths]:
        """<theta, phi> of every child of every sample's node."""
        position = jnp.broadcast_to(jnp.asarray(position, jnp.int32), tokens.shape)
        here = jnp.arange(self.response_length) == position[..., None] - 1
        paths = jnp.where(here, self._symbols(tokens)[..., None], cache.tokens)

        def one(number: Array, path: Array, length: Array) -> Array:
            return self._map.children(number, path, length) @ params["theta"]

        scores = jax.vmap(jax.vmap(one, (None, 0, 0)))(cache.prompt, paths, position)
        return self._spread(scores), Paths(cache.prompt, paths)

    def _numbers(self, prompt: Int[Array, "batch prompt"]) -> Int[Array, " batch"]:
        return prompt[:, -1] - 1 - self._map.vocab

    def _symbols(self, tokens: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
        """Tokens as the feature map numbers them. A token that is not a response token, and has probability
        0, is replaced by a response token."""
        return jnp.clip(tokens - 1, 0, self._map.vocab - 1).astype(jnp.int32)

    def _spread(self, scores: Float[Array, "*batch symbols"]) -> Float[Array, "*batch vocab"]:
        """`scores` with -inf for padding and for prompt tokens."""
        before = ((0, 0),) * (scores.ndim - 1)
        after = self.vocab_size - 1 - self._map.vocab
        return jnp.pad(scores, (*before, (1, after)), constant_values=-jnp.inf)
