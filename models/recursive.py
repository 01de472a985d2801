"""A transformer whose blocks are used several times: depth as compute, the same for all tokens or routed.

`RecursiveTransformer.recursed` is the recursion. `Recursive` inherits prompts, teacher forcing and decoding
from `GPT`: every use of a block is a layer with keys and values of its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models.base import Forward
from models.gpt import GPT, Attention, Block, Params, Transformer, run
from models.nnx_layers import Norm, Normals
from tasks.checks import choice, flag, real, whole

HIDDEN = -1e30
"""Score of the keys of tokens that have left the recursion."""


class Route(NamedTuple):
    """Choice of a router for every token.

    Attributes:
        probs: probability of each number of recursions, 1 to R.
        depth: the most probable number.
    """

    probs: Float[Array, "batch candidates length recursions"]
    depth: Int[Array, "batch candidates length"]

    @property
    def gate(self) -> Float[Array, "batch candidates length 1"]:
        """Probability of the chosen number."""
        return jnp.take_along_axis(self.probs, self.depth[..., None] - 1, axis=-1)


class RecursiveTransformer(Transformer):
    """The network of a `Recursive`."""

    def hidden_states(
        self, x: Float[Array, "batch candidates length width"], attention: Attention, outputs: bool = True
    ) -> Float[Array, "batch candidates length width"]:
        """Outputs of all blocks. Without `outputs` they mean nothing, and the last use of a block computes
        keys and values alone."""
        return self.recursed(x, attention, outputs)[0]

    def recursed(
        self, x: Float[Array, "batch candidates length width"], attention: Attention, outputs: bool = True
    ) -> tuple[Float[Array, "batch candidates length width"], Route | None]:
        """`hidden_states`, and the router's choices."""
        entered = run(self.entry, x, attention)
        route = None if self.router is None else self.router(entered)
        state, first = entered, len(self.entry)
        for recursion in range(1, self.recursions + 1):
            inner = state + entered if self.input_injection and recursion > 1 else state
            active = None if route is None else route.depth >= recursion
            own = attention if active is None else among(attention, active)
            last = recursion == self.recursions and not self.exit
            found = run(self.blocks, inner, own, first, outputs or not last)
            state = found if active is None else jnp.where(active[..., None], found, state)
            first += len(self.blocks)
        if route is not None:
            state = entered + route.gate.astype(state.dtype) * state
        return run(self.exit, state, attention, first, outputs), route

    def __init__(self, model: Recursive, key: PRNGKeyArray) -> None:
        """Initial parameters: as of `GPT`, with the number of uses of blocks as the number of layers."""
        normals = Normals(jax.random.split(key, 4 + 4 * (model.num_layers + 2 * model.outer_layers)))

        def table(rows: int) -> nnx.Param[Array]:
            return normals(model.init_std, (rows, model.width))

        def blocks(count: int) -> nnx.List[Block]:
            return nnx.List([Block(model, normals) for _ in range(count)])

        self.token, self.position = table(model.vocab_size), table(model.max_length)
        self.entry, self.blocks = blocks(model.outer_layers), blocks(model.num_layers)
        self.exit = blocks(model.outer_layers)
        self.final_norm = Norm(model.width, model.dtype)
        self.output = None if model.tie_embeddings else table(model.vocab_size)
        self.router = Router(model, normals) if model.routing == "token" else None
        normals.draw()
        self.recursions, self.input_injection = model.num_recursions, model.input_injection
        self.dtype = model.dtype


class Router(nnx.Module):
    """softmax(layer norm(x) W), the probability of each number of recursions, in float32: coarser ones would
    change choices."""

    def __call__(self, x: Float[Array, "batch candidates length width"]) -> Route:
        """Choice of every token, from what enters the recursion."""
        probs = jax.nn.softmax(self.norm(x) @ self.kernel[...])
        return Route(probs, jnp.argmax(probs, axis=-1) + 1)

    def __init__(self, model: Recursive, normals: Normals) -> None:
        self.norm = Norm(model.width, "float32")
        self.kernel = normals(model.init_std, (model.width, model.num_recursions))


def among(attention: Attention, active: Bool[Array, "batch candidates length"]) -> Attention:
    """`attention` in which the keys of tokens that are not `active` weigh nothing.

    A key has one coordinate more: 0, or `HIDDEN` for a token that is not active. A query has 1 there. So what
    is kept of a key also tells later tokens whether it may be seen.
    """

    def extended(layer: int, query: Array | None, key: Array, value: Array) -> Any:
        hidden = jnp.where(active, 0.0, HIDDEN).astype(key.dtype)[:, None, ..., None]
        key = jnp.concatenate([key, jnp.broadcast_to(hidden, (*key.shape[:-1], 1))], axis=-1)
        if query is not None:
            query = jnp.concatenate([query, jnp.ones_like(query[..., :1])], axis=-1)
        return attention(layer, query, key, value)

    return extended


@dataclasses.dataclass(frozen=True)
class Recursive(GPT):
    """A transformer that uses `num_layers` blocks `num_recursions` times, one use after the other.

    With e the output of the entry blocks, or the embeddings without such blocks, the recursion is s_1 = f(e)
    and s_{r+1} = f(s_r + e), or f(s_r) without `input_injection` (looped transformers, arXiv 2311.12424, with
    injection). With `outer_layers` the first and last blocks have weights of their own ("middle-cycle"
    sharing of arXiv 2507.10524).

    With `routing="token"` a linear router reads e_t and gives token t its number of recursions, the most
    probable of 1..R (mixture of recursions, token choice, arXiv 2507.10524, section 2.2). The output is
    e_t + g_t s_t, where s_t is the state after the token's last recursion and g_t the probability of the
    choice, which teaches the router. In recursion r tokens attend to those that take part in r.

    Expert choice, where a recursion takes the k best tokens of the sequence, is not causal: whether a token
    is taken depends on later tokens. Here the choice of token t is a function of the tokens up to t, so that
    sampling and scoring are one law. Its price is an uneven load, against which the paper adds the balancing
    loss R sum_r f_r P_r, with f_r the share of tokens that chose r and P_r the mean probability of r. Here it
    is computed for each sequence (prompt and response) instead of the batch, because losses of this project
    belong to sequences, and `training_pass` returns it, times `balance`.

    The program has static shapes: it computes every token in every recursion and drops what is not used.
    Routing so changes the law and not the time.

    Attributes:
        num_layers: number of shared blocks of one recursion.
        num_recursions: R, how often they are used, in training, and after it without `test_recursions`.
        test_recursions: how often they are used in evaluation, sampling and decoding; null: as in training.
            No parameter depends on it. Not with a router, which knows R depths.
        outer_layers: number of blocks with weights of their own before the recursion, and after it.
        input_injection: every recursion reads e again.
        routing: "none": all tokens take R recursions; "token": each token its own number.
        balance: weight of the balancing loss.
    """

    num_layers: int = 2
    num_recursions: int = 3
    test_recursions: int | None = None
    outer_layers: int = 0
    input_injection: bool = True
    routing: Literal["none", "token"] = "none"
    balance: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("model.num_recursions", self.num_recursions, 1)
        whole("model.outer_layers", self.outer_layers)
        flag("model.input_injection", self.input_injection)
        real("model.balance", self.balance, least=0)
        choice("model.routing", self.routing, ("none", "token"))
        if self.test_recursions is not None:
            whole("model.test_recursions", self.test_recursions, 1, other="null")
            if self.routing == "token":
                raise ValueError(
                    f"model.test_recursions: {self.test_recursions}; valid with model.routing = token: null, "
                    "because the router gives each token its number"
                )

    @property
    def depth(self) -> int:
        """Number of blocks that a token passes, at most."""
        return 2 * self.outer_layers + self.num_recursions * self.num_layers

    @property
    def tested(self) -> Recursive:
        """This model with the number of recursions of evaluation and sampling."""
        if self.test_recursions is None:
            return self
        return dataclasses.replace(self, num_recursions=self.test_recursions, test_recursions=None)

    def module(self, key: PRNGKeyArray) -> RecursiveTransformer:
        """The network as a `flax.nnx` module with the parameters of `init(key)`."""
        return RecursiveTransformer(self, key)

    def routes(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> tuple[Route, Route]:
        """The router's choice for the prompt's tokens but the last, and for the inputs before every response
        token.

        Raises:
            ValueError: the model has no router.
        """
        if self.routing == "none":
            raise ValueError("model.routing: none; valid for the routes of tokens: token")
        return self._watched(params, prompt, prompt_mask, responses)[1]

    def _watched(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> tuple[Float[Array, "batch candidates response vocab"], tuple[Route, Route]]:
        """`logits` and `routes`."""
        watched: Any = _Watched(self._network(params), [])
        x = self._teacher_forced(watched, prompt, prompt_mask, responses)
        of_prompt, of_response = watched.routes
        return watched.logits(x), (of_prompt, of_response)

    def training_pass(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
        response_mask: Bool[Array, "batch candidates response"],
        heads: int = 0,
    ) -> Forward:
        """`logits`, and the balancing loss of every sequence if tokens are routed."""
        if heads or self.routing == "none":
            return super().training_pass(params, prompt, prompt_mask, responses, response_mask, heads)
        logits, (of_prompt, of_response) = self._watched(params, prompt, prompt_mask, responses)
        real_prompt = jnp.broadcast_to(prompt_mask[:, None, :-1], of_prompt.depth.shape)
        penalty = balancing_loss((of_prompt, real_prompt), (of_response, response_mask))
        return Forward(logits, (), self.balance * penalty)


def balancing_loss(
    *parts: tuple[Route, Bool[Array, "batch #candidates _"]],
) -> Float[Array, "batch candidates"]:
    """R sum_r f_r P_r of sequences that consist of parts: 1 if all numbers of recursions are equally probable
    and equally often chosen, R if one alone is. The f_r are shares and have no gradient.

    Source: Fedus et al., arXiv 2101.03961, equation 4, for each sequence.
    """
    recursions = parts[0][0].probs.shape[-1]
    chosen: Any = 0.0
    probs: Any = 0.0
    count: Any = 0.0
    for route, real_tokens in parts:
        weight = real_tokens[..., None].astype(route.probs.dtype)
        chosen += jnp.sum(weight * jax.nn.one_hot(route.depth - 1, recursions), axis=-2)
        probs += jnp.sum(weight * route.probs, axis=-2)
        count += jnp.sum(weight, axis=-2)
    # A sequence of padding alone has a loss of 0.
    share = 1 / jnp.maximum(count, 1.0)
    return recursions * jnp.sum(jax.lax.stop_gradient(chosen * share) * probs * share, axis=-1)


@dataclasses.dataclass(frozen=True)
class _Watched:
    """A network that notes the routes of every call of `hidden_states`."""

    network: Any
    routes: list[Route]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def hidden_states(self, x: Array, attention: Attention, outputs: bool = True) -> Array:
        x, route = self.network.recursed(x, attention, outputs)
        self.routes.append(route)
        return x
