"""The smallest task and model that fill every seam: what they answer can be checked by hand."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from models import Model
from tasks import PAD, Enumeration, Example, Task, stream

EASY, HARD, FILLER = 3, 4, 5


class ToyLatent(NamedTuple):
    word: Any
    group: Any


@dataclasses.dataclass(frozen=True)
class ToyTask(Task):
    """Prompt `[filler] class word`, word in {1, 2}; response `word end`: end = word (easy) or 3 - word
    (hard).

    The prompt shows the class to whoever reads it; half of the prompts lack the filler and are padded.
    """

    easy: float = 0.9

    vocab_size = 6
    prompt_length = 3
    response_length = 2
    groups = ("easy", "hard")
    num_enumerated = 2

    @property
    def group_probs(self) -> tuple[float, ...]:
        return (self.easy, 1 - self.easy)

    def sample_group(self, key: Any, group: Any) -> Example:
        word_key, filler_key = jax.random.split(key)
        word = jax.random.randint(word_key, (), 1, 3)
        filler = jax.random.bernoulli(filler_key)
        latent = ToyLatent(word, jnp.asarray(group, jnp.int32))
        response = self._responses(latent)[group]
        return Example(
            prompt=jnp.stack([jnp.where(filler, FILLER, PAD), jnp.where(group == 0, EASY, HARD), word]),
            prompt_mask=jnp.stack([filler, jnp.asarray(True), jnp.asarray(True)]),
            response=response,
            response_mask=jnp.ones((2,), bool),
            log_prob=self.log_prob(latent, response),
            group=latent.group,
            latent=latent,
        )

    def _responses(self, latent: ToyLatent) -> Any:
        return jnp.stack([jnp.stack([latent.word, latent.word]), jnp.stack([latent.word, 3 - latent.word])])

    def log_prob(self, latent: ToyLatent, response: Any) -> Any:
        return jnp.where(self.reward(latent, response) > 0, 0.0, -jnp.inf)

    def reward(self, latent: ToyLatent, response: Any) -> Any:
        return jnp.all(response == self._responses(latent)[latent.group]).astype(jnp.float32)

    def validity(self, latent: ToyLatent, response: Any) -> Any:
        return jnp.any(jnp.all(response == self._responses(latent), axis=1)).astype(jnp.float32)

    def enumerate(self, latent: ToyLatent) -> Enumeration:
        return Enumeration(self._responses(latent), jnp.ones((2,), bool))

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, tokens: Any) -> str:
        return " ".join(str(int(token)) for token in np.asarray(tokens) if token != PAD)


@dataclasses.dataclass(frozen=True)
class TabularModel(Model):
    """pi(y_t | x, y_<t) = softmax(table[last token of x, t]): sees the word only, so blind to the class.

    The seeds in `poisoned` light a fuse: their logits are NaN once `fuse_step` has added 3 to it.
    """

    vocab_size: int = 6
    prompt_length: int = 3
    response_length: int = 2
    poisoned: tuple[int, ...] = ()

    def init(self, key: Any) -> Any:
        rows = (self.vocab_size, self.response_length, self.vocab_size)
        own = jax.random.key_data(key)
        lit = [jnp.all(own == jax.random.key_data(stream(seed, "init"))) for seed in self.poisoned]
        rate = jnp.any(jnp.stack(lit)) if lit else jnp.asarray(False)
        return {
            "table": jax.random.normal(key, rows),
            "fuse": jnp.zeros(()),
            "rate": rate.astype(jnp.float32),
        }

    def logits(self, params: Any, prompt: Any, prompt_mask: Any, responses: Any) -> Any:
        fuse = jnp.where(params["fuse"] > 2.5, jnp.nan, 1.0)
        rows = (
            jnp.einsum("bv,vrw->brw", jax.nn.one_hot(prompt[:, -1], self.vocab_size), params["table"]) * fuse
        )
        return jnp.broadcast_to(rows[:, None], (*responses.shape, self.vocab_size))

    def prompt_logits(self, params: Any, prompt: Any, prompt_mask: Any) -> Any:
        return jnp.zeros((*prompt[:, 1:].shape, self.vocab_size))

    def start(self, params: Any, prompt: Any, prompt_mask: Any, num_samples: int) -> Any:
        shape = (prompt.shape[0], num_samples, self.response_length)
        return self.logits(params, prompt, prompt_mask, jnp.zeros(shape, int))

    def step(self, params: Any, cache: Any, tokens: Any, position: Any) -> Any:
        at = jnp.broadcast_to(position, tokens.shape)[..., None, None]
        return jnp.take_along_axis(cache, at, axis=2)[:, :, 0], cache


def class_blind_params(p: float, q: float, model: TabularModel) -> Any:
    """Mass p on the easy response, q on the hard one, the rest elsewhere."""
    table = np.full((model.vocab_size, model.response_length, model.vocab_size), -60.0)
    for word in (1, 2):
        table[word, 0, word] = 0.0
        table[word, 1, word], table[word, 1, 3 - word] = math.log(p), math.log(q)
        if p + q < 1:
            table[word, 1, PAD] = math.log(1 - p - q)
    return {"table": jnp.asarray(table, jnp.float32), "fuse": jnp.zeros(()), "rate": jnp.zeros(())}


def fuse_step(learning_rate: float) -> optax.GradientTransformation:
    """Gradient descent on the table; the fuse burns by the seed's own rate each step."""

    def update(gradients: Any, params: Any) -> Any:
        table = -learning_rate * gradients["table"]
        return {"table": table, "fuse": params["rate"], "rate": jnp.zeros_like(params["rate"])}

    return optax.stateless(update)
