"""Test-time training: a gradient step on every token after it is drawn."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from decoding.base import Decoded, Decoder, Problem, Walk
from decoding.paths import rewards
from decoding.walks import ModelPolicy
from models import Params
from tasks import PAD, Task, categorical
from tasks.checks import choice, real

PerChain = Int[Array, "batch chains"]


@dataclasses.dataclass(frozen=True)
class TestTimeTraining(Decoder):
    """Ancestral sampling with running parameters that restart at theta for every response.

        y_h ~ pi_theta_h(.|x, y_<h),    theta_h+1 = Proj(theta_h + eta grad ln pi_theta_h(y_h | x, y_<h))

    Law: pi_TTT(y|x) = prod_h pi_theta_h(y_h | x, y_<h), scored by `ttt_log_probs`. The guarantee of
    token-level SGD holds for this law at equal step size. At learning rate 0 it is the base model.

    Cost: no query, one token per depth. Every chain has running parameters. With parameters = "last" they are
    one matrix, whose gradient (e_y - p) h^T / temperature requires only the features h: about as fast as
    ancestral sampling, vocab x width numbers per chain. With "all" the cached keys and values of earlier
    tokens are outdated, so every token costs a forward and a backward pass of the whole response: H passes
    per response and one copy of the model per chain, for tiny models.

    Attributes:
        learning_rate: eta >= 0, for the gradient of ln pi in nats.
        parameters: "last": the matrix from features to logits (with tied embeddings the input embedding stays
            fixed); "all": all parameters.
        radius: radius of the ball around 0 for the projection of the running parameters (one Frobenius norm
            over all of them); null for no projection.

    Source: Coverage Principle, arXiv 2510.15020, section 6.1, equations 22 and 23; for transformers dynamic
    evaluation (Krause et al. 2018, 2019).

    Raises:
        ValueError: a field out of range, and, when called, a base model that is not a network.
    """

    __test__: ClassVar[bool] = False  # pytest would collect the class by name
    needs_values: ClassVar[bool] = False

    learning_rate: float = 0.01
    parameters: Literal["last", "all"] = "last"
    radius: float | None = None

    def __post_init__(self) -> None:
        real("decoding.learning_rate", self.learning_rate, least=0)
        choice("decoding.parameters", self.parameters, ("last", "all"))
        if self.radius is not None:
            real("decoding.radius", self.radius, above=0, other="null")

    def __call__(
        self, task: Task, policy: Walk, values: Walk, problem: Problem, key: PRNGKeyArray, chains: int
    ) -> Decoded:
        """One response per chain; `values` are not used."""
        base = _network(policy)
        shape = (problem.prompt.shape[0], chains)
        responses = jnp.full((*shape, task.response_length), PAD, jnp.int32)
        running = self._begin(base, shape)
        cache: Any = ()
        if self.parameters == "last":
            cache = base.model.start(base.params, problem.prompt, problem.prompt_mask, chains)
        last = jnp.broadcast_to(problem.prompt[:, -1:], shape)
        going = jnp.broadcast_to(problem.depth[:, None] > 0, shape)

        def extend(carry: tuple[Any, ...], position: Array) -> tuple[tuple[Any, ...], None]:
            running, cache, last, responses, going = carry
            keys = jax.random.split(jax.random.fold_in(key, position), shape)
            if self.parameters == "last":
                features, cache = base.model.step_features(base.params, cache, last, position)
                laws = self._last_laws(base, running, features)
                tokens = jax.vmap(jax.vmap(categorical))(keys, laws)
                moved = self._last_moved(base, running, features, laws, tokens)
            else:
                moved, tokens, _ = self._all(base, problem, running, responses, position, keys=keys)
            tokens = jnp.where(going, tokens, PAD).astype(jnp.int32)
            running = _where(going, moved, running)
            responses = jax.lax.dynamic_update_slice_in_dim(responses, tokens[..., None], position, axis=2)
            going = going & (position + 1 < problem.depth[:, None])
            if task.end_token is not None:
                going = going & (tokens != task.end_token)
            return (running, cache, tokens, responses, going), None

        carry = (running, cache, last, responses, going)
        (_, _, _, responses, _), _ = jax.lax.scan(extend, carry, jnp.arange(task.response_length))
        length = jnp.sum(responses != PAD, axis=-1, dtype=jnp.int32)
        return Decoded(
            responses,
            jnp.ones(shape, bool),
            rewards(task, problem, responses, length),
            jnp.zeros(shape, jnp.int32),
            length,
        )

    def _begin(self, base: ModelPolicy, shape: tuple[int, ...]) -> Params:
        """Running parameters, one copy per chain."""
        moving = base.model.output_table(base.params) if self.parameters == "last" else base.params
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*shape, *leaf.shape)), moving)

    def _last_laws(
        self,
        base: ModelPolicy,
        tables: Float[Array, "batch chains vocab width"],
        features: Float[Array, "batch chains width"],
    ) -> Float[Array, "batch chains vocab"]:
        """ln pi of the next token under every chain's last matrix."""
        logits = jnp.einsum(
            "bcw,bcvw->bcv", features, tables.astype(features.dtype), preferred_element_type=jnp.float32
        )
        return _law(base, logits)

    def _last_moved(
        self,
        base: ModelPolicy,
        tables: Float[Array, "batch chains vocab width"],
        features: Float[Array, "batch chains width"],
        laws: Float[Array, "batch chains vocab"],
        tokens: PerChain,
    ) -> Float[Array, "batch chains vocab width"]:
        """Last matrices of the chains after a step."""
        surprise = jax.nn.one_hot(tokens, laws.shape[-1], dtype=laws.dtype) - jnp.exp(laws)
        rate = self.learning_rate / base.temperature
        moved = tables + rate * surprise[..., None] * features[..., None, :].astype(tables.dtype)
        return self._projected(moved, axes=2)

    def _all(
        self,
        base: ModelPolicy,
        problem: Problem,
        running: Params,
        responses: Int[Array, "batch chains response"],
        position: Int[Array, ""],
        keys: PRNGKeyArray | None = None,
    ) -> tuple[Params, PerChain, Float[Array, "batch chains"]]:
        """(parameters after the token at `position`, the token, ln pi of the token) per chain.

        The token is drawn if there are keys, else read from the response.
        """

        def one(params: Params, prompt: Array, mask: Array, response: Array, key: Any) -> Any:
            def law(params: Params) -> Array:
                scores = base.model.logits(params, prompt[None], mask[None], response[None, None])
                return _law(base, scores[0, 0, position])

            log_probs, pull = jax.vjp(law, params)
            token = response[position] if key is None else categorical(key, log_probs)
            gradient = pull(jax.nn.one_hot(token, log_probs.size, dtype=log_probs.dtype))[0]
            moved = jax.tree.map(lambda old, slope: old + self.learning_rate * slope, params, gradient)
            return self._projected(moved, axes=0), token, log_probs[token]

        keyed = None if keys is None else 0
        over_chains = jax.vmap(one, in_axes=(0, None, None, 0, keyed))
        every = jax.vmap(over_chains, in_axes=(0, 0, 0, 0, keyed))
        return every(running, problem.prompt, problem.prompt_mask, responses, keys)

    def _projected(self, moving: Params, axes: int) -> Params:
        """Projection on the ball; the first `axes` axes of every leaf are the chains."""
        if self.radius is None:
            return moving
        norm = jnp.sqrt(
            sum(jnp.sum(leaf**2, axis=tuple(range(axes, leaf.ndim))) for leaf in jax.tree.leaves(moving))
        )
        scale = jnp.minimum(1.0, self.radius / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
        return jax.tree.map(lambda leaf: leaf * _aligned(scale, leaf), moving)


def ttt_log_probs(
    rule: TestTimeTraining,
    policy: ModelPolicy,
    problem: Problem,
    responses: Int[Array, "batch candidates response"],
    response_mask: Bool[Array, "batch candidates response"],
) -> Float[Array, "batch candidates response"]:
    """ln pi_TTT(y_h | x, y_<h) in nats of every token of given responses; 0 where the mask is False.

    The sum over tokens is the log-probability with which `rule` draws the response. With parameters = "last"
    the network runs once over all tokens, with "all" once per token.

    Raises:
        ValueError: a base model without a last matrix, if `rule` trains the last matrix.
    """
    base = _network(policy)
    running = rule._begin(base, responses.shape[:2])
    positions = jnp.arange(responses.shape[2])
    if rule.parameters == "last":
        features = base.model.features(base.params, problem.prompt, problem.prompt_mask, responses)

        def by_last(tables: Array, at: tuple[Array, ...]) -> tuple[Array, Array]:
            own, tokens, here = at
            laws = rule._last_laws(base, tables, own)
            moved = rule._last_moved(base, tables, own, laws, tokens)
            score = jnp.take_along_axis(laws, tokens[..., None], axis=-1)[..., 0]
            return _where(here, moved, tables), score

        along = tuple(jnp.moveaxis(a, 2, 0) for a in (features, responses, response_mask))
        scores = jax.lax.scan(by_last, running, along)[1]
    else:

        def by_all(params: Params, position: Array) -> tuple[Params, Array]:
            moved, _, score = rule._all(base, problem, params, responses, position)
            return _where(response_mask[..., position], moved, params), score

        scores = jax.lax.scan(by_all, running, positions)[1]
    return jnp.where(response_mask, jnp.moveaxis(scores, 0, -1), 0.0)


def _network(policy: Walk) -> ModelPolicy:
    if not isinstance(policy, ModelPolicy):
        raise ValueError(
            f"decoding: test-time training moves a network's parameters; {type(policy).__name__} has none"
        )
    return policy


def _law(base: ModelPolicy, logits: Float[Array, "*batch vocab"]) -> Float[Array, "*batch vocab"]:
    """Law of the policy: ln softmax(logits / temperature) on the policy's tokens."""
    allowed = jnp.zeros(logits.shape[-1], bool).at[jnp.asarray(base.tokens)].set(True)
    return jax.nn.log_softmax(jnp.where(allowed, logits / base.temperature, -jnp.inf), axis=-1)


def _aligned(values: Array, leaf: Array) -> Array:
    """`values` with axes of size 1 appended up to the rank of `leaf`."""
    return values.reshape(values.shape + (1,) * (leaf.ndim - values.ndim))


def _where(which: Bool[Array, "batch chains"], new: Params, old: Params) -> Params:
    return jax.tree.map(lambda a, b: jnp.where(_aligned(which, a), a, b), new, old)
