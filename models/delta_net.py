"""DeltaNet and DeltaProduct: linear recurrent language models with the delta rule, as Flax modules.

The recurrence is in `models.delta_rule`, the protocol of a module in `models.recurrent`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.delta_rule import delta_chunked, delta_step, normalise
from models.recurrent import Carry, RecurrentModel
from tasks.checks import flag, real, whole

_NORM_EPSILON = 1e-5


class Recurrence(NamedTuple):
    """What the delta rule needs of each token.

    Attributes:
        query: q of norm 1.
        keys, values, betas: k of norm 1, v and beta of every step.
    """

    query: Float[Array, "*batch heads key"]
    keys: Float[Array, "*batch heads steps key"]
    values: Float[Array, "*batch heads steps value"]
    betas: Float[Array, "*batch heads steps"]


class ShortConvolution(nnx.Module):
    """Causal convolution over time of each channel on its own: y_t = sum_i w_i x_{t - K + 1 + i}.

    `kernel` has shape (K, channels), the current input's weights last. It starts uniform within
    +-1 / sqrt(K).
    """

    def __init__(self, kernel_size: int, channels: int, rngs: nnx.Rngs) -> None:
        bound = kernel_size**-0.5
        self.kernel = nnx.Param(
            jax.random.uniform(rngs.params(), (kernel_size, channels), minval=-bound, maxval=bound)
        )

    def __call__(self, x: Float[Array, "batch length channels"]) -> Float[Array, "batch length channels"]:
        """Outputs at all positions; inputs before the first are 0."""
        kernel, length = self.kernel[...], x.shape[1]
        padded = jnp.pad(x, ((0, 0), (len(kernel) - 1, 0), (0, 0)))
        return sum((w * padded[:, i : i + length] for i, w in enumerate(kernel)), jnp.zeros_like(x))

    def initial_carry(self, batch_size: int) -> Float[Array, "batch inputs channels"]:
        """The last K - 1 inputs."""
        size, channels = self.kernel.shape
        return jnp.zeros((batch_size, size - 1, channels))

    def step(
        self, carry: Float[Array, "batch inputs channels"], x: Float[Array, "batch channels"]
    ) -> tuple[Float[Array, "batch inputs channels"], Float[Array, "batch channels"]]:
        """The output for one more input."""
        inputs = jnp.concatenate([carry, x[:, None]], axis=1)
        return inputs[:, 1:], jnp.sum(inputs * self.kernel[...], axis=1)


class DeltaLayer(nnx.Module):
    """Heads of the delta rule on projections of x.

    q, k_j, v_j = silu(convolution(W x)), where j counts the steps of a token; q and k_j are divided by their
    norms. beta_j = sigmoid(w_j x), times 2 with `negative_eigenvalues`. Each head's output S q goes through
    an RMS norm, whose gains all heads share, and the output matrix.

    Args:
        width: size of x; a head's keys and values have width / num_heads entries.
        num_heads, householder_steps, negative_eigenvalues, kernel_size, chunk_size: see `DeltaProduct`.
        init_std, output_std: standard deviations of the matrices' initial entries.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        householder_steps: int,
        negative_eigenvalues: bool,
        kernel_size: int,
        chunk_size: int,
        init_std: float,
        output_std: float,
        rngs: nnx.Rngs,
    ) -> None:
        self.num_heads, self.steps, self.chunk_size = num_heads, householder_steps, chunk_size
        self.largest_beta = 2.0 if negative_eigenvalues else 1.0
        channels = (1 + 2 * householder_steps) * width
        self.query_key_value = _matrix(width, channels, init_std, rngs)
        self.beta = _matrix(width, num_heads * householder_steps, init_std, rngs)
        self.convolution = ShortConvolution(kernel_size, channels, rngs) if kernel_size else None
        self.output_norm = nnx.RMSNorm(width // num_heads, epsilon=_NORM_EPSILON, rngs=rngs)
        self.output = _matrix(width, width, output_std, rngs)

    def __call__(self, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        """Outputs at all positions, by chunks."""
        projected = self.query_key_value(x)
        if self.convolution is not None:
            projected = self.convolution(projected)
        q, k, v, beta = (jnp.moveaxis(each, 2, 1) for each in self._recurrence(x, projected))
        _, outputs = delta_chunked(self._empty(len(x)), q, k, v, beta, self.chunk_size)
        return self._joined(jnp.moveaxis(outputs, 1, 2))

    def initial_carry(self, batch_size: int) -> Carry:
        """The convolution's last inputs, if there is one, and the heads' states."""
        inputs = None if self.convolution is None else self.convolution.initial_carry(batch_size)
        return inputs, self._empty(batch_size)

    def step(self, carry: Carry, x: Float[Array, "batch width"]) -> tuple[Carry, Float[Array, "batch width"]]:
        """The next state and the output for one more input."""
        inputs, state = carry
        projected = self.query_key_value(x)
        if self.convolution is not None:
            inputs, projected = self.convolution.step(inputs, projected)
        state, outputs = delta_step(state, *self._recurrence(x, projected))
        return (inputs, state), self._joined(outputs)

    def _recurrence(
        self, x: Float[Array, "*batch width"], projected: Float[Array, "*batch channels"]
    ) -> Recurrence:
        width, batch = x.shape[-1], x.shape[:-1]
        active = jax.nn.silu(projected)
        query = active[..., :width].reshape(*batch, self.num_heads, -1)
        pairs = active[..., width:].reshape(*batch, 2, self.steps, self.num_heads, width // self.num_heads)
        keys, values = jnp.moveaxis(jnp.moveaxis(pairs, -2, -4), -3, 0)
        betas = self.largest_beta * jax.nn.sigmoid(self.beta(x))
        betas = jnp.swapaxes(betas.reshape(*batch, self.steps, self.num_heads), -1, -2)
        return Recurrence(normalise(query), normalise(keys), values, betas)

    def _empty(self, batch_size: int) -> Float[Array, "batch heads value key"]:
        size = self.output.in_features // self.num_heads
        return jnp.zeros((batch_size, self.num_heads, size, size))

    def _joined(self, outputs: Float[Array, "*batch heads value"]) -> Float[Array, "*batch width"]:
        return self.output(self.output_norm(outputs).reshape(*outputs.shape[:-2], -1))


class DeltaBlock(nnx.Module):
    """x + delta rule(RMS norm(x)), then x + SwiGLU MLP(RMS norm(x)).

    The MLP is W_out (silu(W_gate x) * W_in x), with 2/3 `mlp_ratio` times `width` hidden units, so that it
    has as many parameters as an MLP of two matrices with `mlp_ratio` times `width`.
    """

    def __init__(
        self,
        width: int,
        mlp_ratio: int,
        init_std: float,
        output_std: float,
        delta: DeltaLayer,
        rngs: nnx.Rngs,
    ) -> None:
        hidden = max(1, 2 * mlp_ratio * width // 3)
        self.delta_norm = nnx.RMSNorm(width, epsilon=_NORM_EPSILON, rngs=rngs)
        self.delta = delta
        self.mlp_norm = nnx.RMSNorm(width, epsilon=_NORM_EPSILON, rngs=rngs)
        self.mlp_gate = _matrix(width, hidden, init_std, rngs)
        self.mlp_in = _matrix(width, hidden, init_std, rngs)
        self.mlp_out = _matrix(hidden, width, output_std, rngs)

    def __call__(self, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        """Outputs at all positions."""
        return self._mlp(x + self.delta(self.delta_norm(x)))

    def initial_carry(self, batch_size: int) -> Carry:
        """The state of the delta rule's layer."""
        return self.delta.initial_carry(batch_size)

    def step(self, carry: Carry, x: Float[Array, "batch width"]) -> tuple[Carry, Float[Array, "batch width"]]:
        """The next state and the output for one more input."""
        carry, mixed = self.delta.step(carry, self.delta_norm(x))
        return carry, self._mlp(x + mixed)

    def _mlp(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        normed = self.mlp_norm(x)
        return x + self.mlp_out(jax.nn.silu(self.mlp_gate(normed)) * self.mlp_in(normed))


class DeltaProduct(RecurrentModel):
    """DeltaProduct (arXiv 2502.10297): `householder_steps` steps of the delta rule for each token.

    From arXiv 2502.10297: a key, a value and a beta of its own for each step, one query for each token. The
    paper's forget gate and output gate are left out. From arXiv 2406.06484 (DeltaNet): blocks as in LLaMA
    (RMS norms before, SwiGLU MLPs, no biases), short convolutions with SiLU on q, k and v, keys and queries
    of norm 1, an RMS norm on each head's output, and training by chunks. From arXiv 2411.12537: beta in
    (0, 2), for eigenvalues in (-1, 1]. Ours: the initial parameters, as in `models.GPT` (normal,
    matrices that write into the residual stream divided by sqrt(2 num_layers)); beta without a bias starts
    near 1/2, or near 1 with negative eigenvalues.

    Args:
        vocab_size: size of the vocabulary.
        num_layers: number of blocks.
        num_heads: heads of the delta rule in a block.
        width: size of the hidden states, a multiple of `num_heads`.
        householder_steps: n_h, steps of the delta rule for each token.
        negative_eigenvalues: beta in (0, 2) instead of (0, 1); eigenvalues of the steps' matrices then reach
            from -1 to 1 instead of 0 to 1.
        kernel_size: inputs that a short convolution sees; 0 for no convolution.
        mlp_ratio: size of the MLPs, see `DeltaBlock`.
        chunk_size: tokens in a chunk of the parallel form, on CPU steps of the delta rule; changes speed
            alone.
        init_std: standard deviation of the initial embeddings and matrices.
        rngs: random numbers of the initial parameters.

    Raises:
        ValueError: a value that is not valid.
    """

    def __init__(
        self,
        vocab_size: int,
        num_layers: int = 2,
        num_heads: int = 4,
        width: int = 128,
        householder_steps: int = 2,
        negative_eigenvalues: bool = True,
        kernel_size: int = 4,
        mlp_ratio: int = 4,
        chunk_size: int = 32,
        init_std: float = 0.02,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        sizes = {
            "num_layers": num_layers,
            "num_heads": num_heads,
            "width": width,
            "householder_steps": householder_steps,
            "mlp_ratio": mlp_ratio,
            "chunk_size": chunk_size,
        }
        for field, value in sizes.items():
            whole(f"model.module.{field}", value, 1)
        whole("model.module.kernel_size", kernel_size, 0)
        if width % num_heads:
            raise ValueError(
                f"model.module.width: {width} is not a multiple of model.module.num_heads = {num_heads}"
            )
        flag("model.module.negative_eigenvalues", negative_eigenvalues)
        real("model.module.init_std", init_std, above=0)
        output_std = init_std / math.sqrt(2 * num_layers)

        def block() -> DeltaBlock:
            delta = DeltaLayer(
                width,
                num_heads,
                householder_steps,
                negative_eigenvalues,
                kernel_size,
                chunk_size,
                init_std,
                output_std,
                rngs,
            )
            return DeltaBlock(width, mlp_ratio, init_std, output_std, delta, rngs)

        self.embedding = nnx.Embed(
            vocab_size, width, embedding_init=nnx.initializers.normal(init_std), rngs=rngs
        )
        self.layers = nnx.List([block() for _ in range(num_layers)])
        self.final_norm = nnx.RMSNorm(width, epsilon=_NORM_EPSILON, rngs=rngs)
        self.output = _matrix(width, vocab_size, init_std, rngs)


class DeltaNet(DeltaProduct):
    """DeltaNet (arXiv 2406.06484): `DeltaProduct` with one step for each token.

    Without negative eigenvalues, as first published, it cannot compute the parity of a sequence of any
    length; with them it can (arXiv 2411.12537).

    Args:
        vocab_size, num_layers, num_heads, width, negative_eigenvalues, kernel_size, mlp_ratio, chunk_size,
            init_std, rngs: as of `DeltaProduct`.

    Raises:
        ValueError: a value that is not valid.
    """

    def __init__(
        self,
        vocab_size: int,
        num_layers: int = 2,
        num_heads: int = 4,
        width: int = 128,
        negative_eigenvalues: bool = False,
        kernel_size: int = 4,
        mlp_ratio: int = 4,
        chunk_size: int = 32,
        init_std: float = 0.02,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            vocab_size,
            num_layers,
            num_heads,
            width,
            1,
            negative_eigenvalues,
            kernel_size,
            mlp_ratio,
            chunk_size,
            init_std,
            rngs=rngs,
        )


def _matrix(fan_in: int, fan_out: int, std: float, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(fan_in, fan_out, use_bias=False, kernel_init=nnx.initializers.normal(std), rngs=rngs)
