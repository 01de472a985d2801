"""Plain text, character by character: windows of a text, with held-out blocks that training never sees."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.base import PAD, Enumeration, Example, Task
from tasks.checks import real, whole
from tasks.streams import check_seed

TOPICS = "python_topics"
"""The reference texts behind Python's `help()`, which every CPython has (PSF licence, version 2)."""


class TextLatent(NamedTuple):
    """Tokens that follow the prompt in the text."""

    answer: Int[Array, " response"]


class Windows(NamedTuple):
    """First characters of the windows of class `train`, then those of class `held_out`; how many of each."""

    starts: Int[np.ndarray, " windows"]
    counts: Int[np.ndarray, "2"]


@dataclasses.dataclass(frozen=True)
class Text(Task):
    """Prompt: `context` characters of a text; response: the `continuation` characters that follow there.

    Attributes:
        source: `python_topics`, the text of `pydoc_data.topics` of the Python that runs, or a file in UTF-8.
            Blanks and line ends in a row become one blank.
        context: characters of a prompt.
        continuation: characters of a response.
        held_out: share of the blocks that are held out, rounded to a whole number of blocks.
        block: characters of a block. A window lies in one block, so that no character of a held-out window
            is trained on.
        split_seed: seed of the split, not of the examples.
        digest: first hexadecimal digits of the SHA-256 of the text that a run has to have; "" for any. The
            text of `python_topics` differs between versions of Python.

    Two classes split the windows: `train` with probability 1 and `held_out` with probability 0; windows are
    uniform in each. Only prompts that occur once in the whole text count, so that pi_D(.|x) is a point mass
    on what follows and no held-out prompt is trained on. Cov_N = P[pi_hat(y|x) <= 1/N] is then the tail of
    the likelihoods of the text. The law of the language is not known, and neither is the divergence from it.

    Raises:
        ValueError: in one line, for a field out of range, a text that cannot be read or has another digest,
            or a class without windows.
    """

    source: str = TOPICS
    context: int = 32
    continuation: int = 8
    held_out: float = 0.1
    block: int = 2000
    split_seed: int = 0
    digest: str = ""

    def __post_init__(self) -> None:
        for field in ("context", "continuation"):
            whole(f"task.{field}", getattr(self, field), 1)
        real("task.held_out", self.held_out, above=0, below=1)
        whole("task.block", self.block, self.context + self.continuation)
        check_seed("task.split_seed", self.split_seed)
        found = hashlib.sha256(self.text.encode()).hexdigest()
        if not isinstance(self.digest, str) or not found.startswith(self.digest.lower()):
            raise ValueError(f"task.digest: {self.digest!r}; valid: the text of task.source has {found[:16]}")
        if not self.windows.counts.all():
            train, held_out = self.windows.counts.tolist()
            raise ValueError(
                f"task.held_out: {self.held_out} leaves {train} windows for train and {held_out} for "
                f"held_out; valid: at least one each"
            )

    @property
    def text(self) -> str:
        """The text, with single blanks."""
        return _text(self.source)

    @property
    def characters(self) -> tuple[str, ...]:
        """The characters of the text in the order of their code points; token 1 + i is character i."""
        return _characters(self.source)

    @property
    def windows(self) -> Windows:
        """Starts of the windows of both classes."""
        return _windows(self)

    @property
    def vocab_size(self) -> int:
        """Padding (0) and the characters."""
        return 1 + len(self.characters)

    @property
    def prompt_length(self) -> int:
        """`context`."""
        return self.context

    @property
    def response_length(self) -> int:
        """`continuation`."""
        return self.continuation

    @property
    def groups(self) -> tuple[str, ...]:
        """Windows that are trained on, and the others."""
        return ("train", "held_out")

    @property
    def group_probs(self) -> tuple[float, ...]:
        """All mass on the training windows."""
        return (1.0, 0.0)

    @property
    def num_enumerated(self) -> int:
        """The continuation in the text."""
        return 1

    def sample_group(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Example:
        """Draw a uniform window of the class."""
        starts, counts = self.windows
        place = jnp.asarray([0, counts[0]])[group] + jax.random.randint(
            key, (), 0, jnp.asarray(counts)[group]
        )
        size = self.context + self.continuation
        tokens = jax.lax.dynamic_slice(
            jnp.asarray(_tokens(self.source)), (jnp.asarray(starts)[place],), (size,)
        )
        prompt, response = tokens[: self.context], tokens[self.context :]
        latent = TextLatent(response)
        return Example(
            prompt=prompt,
            prompt_mask=jnp.ones((self.context,), bool),
            response=response,
            response_mask=jnp.ones((self.continuation,), bool),
            log_prob=self.log_prob(latent, response),
            group=jnp.asarray(group, jnp.int32),
            latent=latent,
        )

    def log_prob(self, latent: TextLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """0 for what follows in the text, else -inf, in nats."""
        return jnp.where(jnp.all(response == latent.answer), 0.0, -jnp.inf)

    def reward(self, latent: TextLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 for what follows in the text, else 0."""
        return jnp.all(response == latent.answer).astype(jnp.float32)

    def validity(self, latent: TextLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """The reward."""
        return self.reward(latent, response)

    def enumerate(self, latent: TextLatent) -> Enumeration:
        """The continuation in the text."""
        return Enumeration(latent.answer[None], jnp.ones((1,), bool))

    def facts(self) -> list[tuple[str, Any]]:
        """Sizes and the digest of the text, for display."""
        train, held_out = self.windows.counts.tolist()
        return [
            ("characters", len(self.text)),
            ("windows of class train", train),
            ("windows of class held_out", held_out),
            ("digest", hashlib.sha256(self.text.encode()).hexdigest()[:16]),
        ]

    def encode(self, text: str) -> list[int]:
        """Tokens of the characters.

        Raises:
            ValueError: for a character that the text does not have.
        """
        tokens = {character: 1 + i for i, character in enumerate(self.characters)}
        for character in text:
            if character not in tokens:
                raise ValueError(f"text: {character!r} is not in the text of task.source")
        return [tokens[character] for character in text]

    def decode(self, tokens: Any) -> str:
        """The characters; padding is skipped."""
        return "".join(self.characters[int(token) - 1] for token in np.asarray(tokens) if int(token) != PAD)


@functools.lru_cache(maxsize=8)
def _text(source: str) -> str:
    if source == TOPICS:
        try:
            from pydoc_data.topics import topics
        except ImportError:
            raise ValueError(f"task.source: {source}: this Python has no pydoc_data; valid: a file") from None
        text = "\n".join(topics[name] for name in sorted(topics))
    else:
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"task.source: {source!r}: {reason}; valid: {TOPICS} or a text file in UTF-8"
            ) from None
    return " ".join(text.split())


@functools.lru_cache(maxsize=8)
def _characters(source: str) -> tuple[str, ...]:
    return tuple(sorted(set(_text(source))))


@functools.lru_cache(maxsize=8)
def _tokens(source: str) -> Int[np.ndarray, " characters"]:
    number = {character: 1 + i for i, character in enumerate(_characters(source))}
    return np.array([number[character] for character in _text(source)], np.int32)


@functools.lru_cache(maxsize=8)
def _windows(task: Text) -> Windows:
    text, size = task.text, task.context + task.continuation
    times = collections.Counter(text[i : i + task.context] for i in range(len(text) - task.context + 1))
    blocks = -(-len(text) // task.block)
    order = np.random.default_rng(task.split_seed).permutation(blocks)
    held = np.zeros(blocks, bool)
    held[order[: round(task.held_out * blocks)]] = True
    starts: tuple[list[int], list[int]] = ([], [])
    for first in range(0, len(text), task.block):
        last = min(first + task.block, len(text)) - size
        starts[int(held[first // task.block])].extend(
            i for i in range(first, last + 1) if times[text[i : i + task.context]] == 1
        )
    return Windows(
        np.array(starts[0] + starts[1], np.int32), np.array([len(each) for each in starts], np.int32)
    )
