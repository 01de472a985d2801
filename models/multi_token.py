"""A GPT with heads for tokens after the next one, for multi-token prediction (arXiv 2404.19737)."""

from __future__ import annotations

import dataclasses
import zlib

import jax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models.base import Forward, Model
from models.cache import PrefixCache, with_prompt
from models.gpt import GPT, Block, Params, Transformer, run
from models.nnx_layers import Normals
from tasks.checks import whole


class MultiTokenTransformer(Transformer):
    """The network of a `MultiTokenGPT`: a `Transformer` with further blocks, of which each is a head."""

    def further(
        self,
        prompt: Float[Array, "batch prefix width"],
        prefix: PrefixCache,
        x: Float[Array, "batch candidates response width"],
        heads: int,
    ) -> tuple[Float[Array, "batch candidates _ vocab"], ...]:
        """Logits of the heads d = 1..heads at all inputs but the last d, which have no target.

        Args:
            prompt, x: what enters the last block, at the prompt's tokens but the last and at the inputs
                before the response's tokens.
            prefix: mask and length of the prompt.
            heads: number of heads to compute.
        """
        found = []
        for d, block in enumerate(self.ahead[:heads], start=1):
            key, value = block.heads(prompt[:, None], first=1)
            own = PrefixCache((key[:, :, 0],), (value[:, :, 0],), prefix.mask, prefix.length)
            inputs = x[:, :, :-d]
            found.append(self.logits(run([block], inputs, with_prompt(own, inputs.shape[2]))))
        return tuple(found)

    def __init__(self, model: MultiTokenGPT, key: PRNGKeyArray) -> None:
        """Initial parameters: those of a `GPT`, and of the heads."""
        super().__init__(model, key)
        # No part of a split of `key`, so that no other parameter depends on the number of heads.
        normals = Normals(jax.random.split(jax.random.fold_in(key, zlib.crc32(b"ahead")), 4 * model.ahead))
        self.ahead = nnx.List([Block(model, normals) for _ in range(model.ahead)])
        normals.draw()


@dataclasses.dataclass(frozen=True)
class MultiTokenGPT(GPT):
    """A `GPT` with heads for tokens after the next one. `with_ahead` makes it of a `GPT` for an objective.

    A head is one block more, which reads what enters the last block, with final norm and output table shared:
    the last block itself is the head of the next token (arXiv 2404.19737, section 2). A GPT's parameters keep
    names and initial values; those of the heads lie at `ahead`. `training_pass` alone computes the heads.

    Attributes:
        ahead: number of heads.
    """

    ahead: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("model.ahead", self.ahead, 1)

    def with_ahead(self, heads: int) -> MultiTokenGPT:
        """This model with at least `heads` heads."""
        return dataclasses.replace(self, ahead=max(heads, self.ahead))

    def module(self, key: PRNGKeyArray) -> MultiTokenTransformer:
        """The network as a `flax.nnx` module with the parameters of `init(key)`."""
        return MultiTokenTransformer(self, key)

    def training_pass(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
        response_mask: Bool[Array, "batch candidates response"],
        heads: int = 0,
    ) -> Forward:
        """`logits`, and those of the first `heads` heads for tokens after the next one.

        Raises:
            ValueError: the model has fewer heads.
        """
        if not heads:
            return Forward(self.logits(params, prompt, prompt_mask, responses))
        if heads > self.ahead:
            raise ValueError(f"model.ahead: {self.ahead}; the objective needs at least {heads}")
        network = self._network(params)
        assert isinstance(network, MultiTokenTransformer)
        *trunk, last = network.blocks
        prefix, before = self._prefill(network, prompt, prompt_mask, outputs=False)
        attention = with_prompt(prefix, responses.shape[2])
        x = run(trunk, network.embed(*self._inputs(prefix, prompt, responses)), attention)
        logits = network.logits(run([last], x, attention, first=len(trunk)))
        return Forward(logits, network.further(before, prefix, x, heads))


def with_ahead(model: Model, heads: int) -> Model:
    """The model with at least `heads` heads for tokens after the next one, for an objective that asks.

    Raises:
        ValueError: one line, if the model has no such heads.
    """
    if heads <= model.ahead:
        return model
    if type(model) is GPT:
        return MultiTokenGPT(**vars(model), ahead=heads)
    return model.with_ahead(heads)
