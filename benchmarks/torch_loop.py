"""An idiomatic PyTorch training loop, equivalent to covlab's step by step."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.common import UsageError
from benchmarks.problem import Layout, Problem, sequences


class Block(nn.Module):
    """A pre-norm transformer block with one matrix product for queries, keys and values."""

    def __init__(self, width: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, hidden)
        self.mlp_out = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The outputs at all positions."""
        normed = self.query_key_value(self.attention_norm(x))
        query, key, value = (self._heads(part) for part in normed.chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
        return self._finish(x, attended)

    def at(self, x: torch.Tensor, chosen: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The outputs at the positions with inputs `chosen`; keys and values everywhere."""
        width = x.shape[-1]
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        query = F.linear(self.attention_norm(chosen), weight[:width], bias[:width])
        both = F.linear(self.attention_norm(x), weight[width:], bias[width:])
        key, value = (self._heads(part) for part in both.chunk(2, dim=-1))
        attended = F.scaled_dot_product_attention(self._heads(query), key, value, attn_mask=mask)
        return self._finish(chosen, attended)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _finish(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        x = x + self.attention_out(attended.transpose(1, 2).flatten(2))
        hidden = F.gelu(self.mlp_in(self.mlp_norm(x)), approximate="tanh")
        return x + self.mlp_out(hidden)


class GPT(nn.Module):
    """GPT-2 with tied embeddings; the loss is -ln pi(response | prompt), averaged over the batch.

    With `skip_unused` the last block computes no outputs for prompt positions, which are unused.
    """

    def __init__(self, problem: Problem, skip_unused: bool) -> None:
        super().__init__()
        self.skip_unused = skip_unused
        width = problem.width
        self.token = nn.Embedding(problem.vocab_size, width)
        self.position = nn.Embedding(problem.length, width)
        self.blocks = nn.ModuleList(
            Block(width, problem.num_heads, problem.mlp_ratio * width) for _ in range(problem.num_layers)
        )
        self.final_norm = nn.LayerNorm(width)

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        index: torch.Tensor,
        target: torch.Tensor,
        target_mask: torch.Tensor,
        last_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """The loss of a batch."""
        x = self.token(tokens) + self.position(positions)
        for block in self.blocks[:-1]:
            x = block(x, mask)
        rows = index[..., None].expand(-1, -1, x.shape[-1])
        if self.skip_unused:
            x = self.blocks[-1].at(x, x.gather(1, rows), last_mask)
        else:
            x = self.blocks[-1](x, mask).gather(1, rows)
        logits = F.linear(self.final_norm(x), self.token.weight)
        losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
        return (losses * target_mask.flatten()).sum() / len(tokens)


class TorchLoop:
    """Batches in memory, forward, backward, AdamW.

    Args:
        problem: the training problem.
        threads: number of PyTorch's threads.
        compiled: mode of `torch.compile`; "no" for none. "reduce-overhead" makes CUDA graphs.
        layout: side of the padding; "right" needs no mask.
        attention: the fused kernel of `scaled_dot_product_attention` or the plain one.
        optimizer: AdamW's implementation.
        skip_unused: True to omit the last block's outputs at prompt positions.
        dtype: of activations; "bfloat16" by autocast, parameters stay float32.
        device: where to train.

    Raises:
        UsageError: "cuda" where PyTorch sees no GPU.
    """

    def __init__(
        self,
        problem: Problem,
        threads: int,
        compiled: Literal["no", "default", "max-autotune-no-cudagraphs", "reduce-overhead"] = "no",
        layout: Layout = "right",
        attention: Literal["flash", "math"] = "flash",
        optimizer: Literal["fused", "foreach"] = "fused",
        skip_unused: bool = False,
        dtype: Literal["float32", "bfloat16"] = "float32",
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("torch: sees no GPU, but JAX does; valid: a build of PyTorch for CUDA")
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")
        self.problem, self.skip_unused, self.layout, self.implementation = (
            problem,
            skip_unused,
            layout,
            optimizer,
        )
        self.kernel, self.dtype = attention, dtype
        self.device = torch.device(device)
        self.model = GPT(problem, skip_unused).to(self.device)
        self.batches = [self._batch(batch) for batch in problem.batches]
        self.loss: Any = self.model
        if compiled != "no":
            self.loss = torch.compile(self.model, mode=None if compiled == "default" else compiled)
        self.reset()

    def reset(self) -> None:
        """Restore the initial parameters and a fresh optimizer."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(torch.from_numpy(self._initial(name)))
        named = list(self.model.named_parameters())
        spared = [p for name, p in named if name.endswith("bias") or "norm" in name]
        decayed = [p for name, p in named if not (name.endswith("bias") or "norm" in name)]
        problem = self.problem
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed}, {"params": spared, "weight_decay": 0.0}],
            lr=problem.learning_rate,
            betas=(problem.beta1, problem.beta2),
            eps=problem.epsilon,
            weight_decay=problem.weight_decay,
            fused=self.implementation == "fused",
            foreach=self.implementation == "foreach",
        )
        self.done = 0

    def loss_and_gradient(self) -> tuple[float, dict[str, np.ndarray]]:
        """Loss and gradient of the first batch at the initial parameters, in covlab's names and layout."""
        self.reset()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._forward(self.batches[0])
        with self._attention():
            loss.backward()
        gradients = {}
        for name, parameter in self.model.named_parameters():
            assert parameter.grad is not None
            gradient = parameter.grad.cpu().numpy().copy()
            gradients[self._name(name)] = gradient.T if self._is_matrix(name) else gradient
        return float(loss.detach()), gradients

    def losses(self, count: int) -> list[float]:
        """Losses of the first updates."""
        self.reset()
        return [float(self._step().detach()) for _ in range(count)]

    def steps(self, count: int) -> None:
        """Train for `count` steps."""
        for _ in range(count):
            self._step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _step(self) -> torch.Tensor:
        loss = self._forward(self.batches[self.done % len(self.batches)])
        self.optimizer.zero_grad(set_to_none=True)
        with self._attention():
            loss.backward()
        self.optimizer.step()
        self.done += 1
        return loss

    def _forward(self, batch: tuple[Any, ...]) -> torch.Tensor:
        low = torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")
        with self._attention(), low:
            return self.loss(*batch)

    def _attention(self) -> contextlib.AbstractContextManager[Any]:
        return sdpa_kernel(SDPBackend.MATH) if self.kernel == "math" else contextlib.nullcontext()

    def _batch(self, batch: dict[str, np.ndarray]) -> tuple[torch.Tensor | None, ...]:
        made = sequences(batch, self.layout)
        last = None
        if self.skip_unused:
            if made.mask is None:
                last = (np.arange(made.tokens.shape[1]) <= made.places[..., None])[:, None]
            else:
                last = np.take_along_axis(made.mask, made.places[:, None, :, None], axis=2)
        arrays = (*made[:5], made.target_mask.astype(np.float32), last)
        return tuple(
            None if array is None else torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
            for array in arrays
        )

    def _initial(self, name: str) -> np.ndarray:
        value = self.problem.parameters[self._name(name)]
        return np.array(value.T if self._is_matrix(name) else value)

    def _is_matrix(self, name: str) -> bool:
        return name.endswith("weight") and "norm" not in name and name.startswith("blocks.")

    def _name(self, name: str) -> str:
        """`blocks.0.mlp_in.weight` -> `blocks/0/mlp_in/kernel`."""
        if name in ("token.weight", "position.weight"):
            return name.removesuffix(".weight")
        path, _, last = name.replace(".", "/").rpartition("/")
        return f"{path}/{last if last == 'bias' else 'scale' if 'norm' in path else 'kernel'}"
