"""Tasks on bracket strings: sampling, an exact base model, and exact entropies and counts."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks import bracket_law
from tasks.base import PAD, Enumeration, Example
from tasks.bracket_law import CLOSE, END, OPEN
from tasks.bracket_state import BracketLatent, depths, empty_stack, first_tokens, latent_of, matches
from tasks.bracket_strings import KINDS, BracketStrings
from tasks.drawing import categorical, gumbel, log_of


@dataclasses.dataclass(frozen=True)
class BracketTask(BracketStrings):
    """Balanced strings of brackets as in `BracketStrings`, under the law of a subclass."""

    def sample_group(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Example:
        """Draw a prefix of the given kind, then the rest by the conditioned process, without rejection."""
        length_key, action_key, type_key = jax.random.split(key, 3)
        first, last = self.prefix_lengths
        kind = jnp.asarray([KINDS.index(name) for name in self.groups])[group]
        drawn = jax.random.randint(length_key, (), first, last + 1)
        length = jnp.stack([drawn, jnp.asarray(self.max_depth), jnp.asarray(len(self._given))])[kind]
        types = categorical(type_key, log_of(self._type_probs), (self._num_tokens,))
        given_open, _, given_types = self.text.kinds(jnp.asarray(self._given_padded))
        forced = (jnp.arange(self._num_tokens) < length) & (kind > 0)
        types = jnp.where(forced & (kind == 2), given_types, types)
        prescribed = jnp.where(given_open | (kind == 1), OPEN, CLOSE)
        actions = self._draw_actions(action_key, length, jnp.where(forced, prescribed, -1))
        return self._example(actions, types, length, group)

    @functools.cached_property
    def _given_padded(self) -> np.ndarray:
        return np.pad(self._given, (0, self._num_tokens - len(self._given)))

    def _draw_actions(
        self, key: PRNGKeyArray, length: Int[Array, ""], forced: Int[Array, " tokens"]
    ) -> Int[Array, " tokens"]:
        """Actions of a string: `forced` where not negative, else drawn; -1 after the end."""
        law = self._law
        first, last = self.prefix_lengths
        early = log_of(self._starts)[jnp.clip(length, first, last) - first]
        late = log_of(law.steps)
        noise = gumbel(key, (forced.size, early.shape[-1]))

        def step(
            carry: tuple[Array, Array], now: tuple[Array, Array, Array]
        ) -> tuple[tuple[Array, Array], Array]:
            depth, ended = carry
            time, own, wanted = now
            row = jnp.where(time < length, early[time, depth], late[time, depth])
            # Same draw as `categorical`, with the noise of all tokens drawn at once.
            action = jnp.argmax(row + own).astype(jnp.int32)
            action = jnp.where(wanted >= 0, wanted.astype(jnp.int32), action)
            move = (action == OPEN).astype(jnp.int32) - (action == CLOSE).astype(jnp.int32)
            depth = jnp.where(ended, depth, depth + move)
            return (depth, ended | (action == END)), jnp.where(ended, -1, action)

        carry = (jnp.asarray(0, jnp.int32), jnp.asarray(False))
        return jax.lax.scan(step, carry, (jnp.arange(forced.size), noise, forced))[1]

    def _example(
        self,
        actions: Int[Array, " tokens"],
        types: Int[Array, " tokens"],
        length: Int[Array, ""],
        group: Int[Array, ""],
    ) -> Example:
        is_open, is_close = actions == OPEN, actions == CLOSE
        depth = depths(jnp.asarray(0, jnp.int32), is_open, is_close)
        top, _ = matches(empty_stack(1), is_open, depth, types)
        tokens = self.text.tokens(actions, types, top[:-1])
        latent = latent_of(self.text, tokens, length, group, self.prompt_length - 1, self._max_stack)
        place = jnp.arange(self.prompt_length) - (self.prompt_length - length)
        prompt = jnp.where(place >= 0, tokens[place], jnp.where(place == -1, self.text.start, PAD))
        padded = jnp.pad(tokens, (0, self.response_length))
        response = padded[length + jnp.arange(self.response_length)]
        return Example(
            prompt=prompt,
            prompt_mask=prompt != PAD,
            response=response,
            response_mask=response != PAD,
            log_prob=self.log_prob(latent, response),
            group=group.astype(jnp.int32),
            latent=latent,
        )

    @property
    def knows_next_tokens(self) -> bool:
        """True: the law depends on the number of brackets and the stack."""
        return True

    def next_log_probs(
        self, latent: BracketLatent, response: Int[Array, " response"]
    ) -> Float[Array, "response vocab"]:
        """ln pi_D(a | x, y_<h) in nats of every token a, from the law's table at every stack of the response.

        All values are -inf after a bracket that does not fit, after END, and beyond the longest string.
        """
        parsed = self._parse(latent, response)
        depth, top, legal = parsed.depth[:-1], parsed.top[:-1], parsed.legal[:-1]
        brackets = latent.length + jnp.arange(response.size)
        steps = jnp.asarray(self._law.steps, jnp.float32)[self._time(brackets), self._level(depth)]
        steps = jnp.where((legal & (brackets <= self._law.total))[:, None], steps, 0.0)
        opens = steps[:, OPEN, None] * jnp.asarray(self._type_probs, jnp.float32)
        closes = jnp.where(jnp.arange(self.num_types) == top[:, None], steps[:, CLOSE, None], 0.0)
        known = jnp.concatenate([opens, closes, steps[:, END:]], axis=1)[:, : len(self.response_tokens)]
        rest = self.vocab_size - 1 - known.shape[1]
        return jnp.log(jnp.pad(known, ((0, 0), (1, rest))))

    def reference_log_probs(
        self, latent: BracketLatent, prefix: Int[Array, " response"], length: Int[Array, ""]
    ) -> Float[Array, " vocab"]:
        """ln pi_ref(a | x, y_1:h) for the base model: uniform with probability `noise`, else pi_D.

        pi_D's next token depends on the number of brackets and the stack. The base model is uniform over the
        response tokens where pi_D has no next token: after a bracket that does not fit, after END, deeper
        than `max_depth` or than the remaining tokens can close. The value is -inf for padding and START.
        """
        parsed = self._parse(latent, first_tokens(prefix, length))
        depth, legal = parsed.depth[length], parsed.legal[length]
        brackets = latent.length + length
        steps = jnp.asarray(self._law.steps, jnp.float32)[self._time(brackets), self._level(depth)]
        steps = jnp.where(legal & (brackets <= self._law.total), steps, 0.0)
        opens = steps[OPEN] * jnp.asarray(self._type_probs, jnp.float32)
        closes = jnp.where(jnp.arange(self.num_types) == parsed.top[length], steps[CLOSE], 0.0)
        own = jnp.concatenate([opens, closes, steps[END:]])[: len(self.response_tokens)]
        uniform = 1 / len(self.response_tokens)
        mixed = jnp.where(jnp.sum(steps) > 0, (1 - self.noise) * own + self.noise * uniform, uniform)
        none = jnp.zeros((1,), mixed.dtype)
        return jnp.log(jnp.concatenate([none, mixed, none]))

    def value(
        self, latent: BracketLatent, prefix: Int[Array, " response"], length: Int[Array, ""]
    ) -> Float[Array, ""]:
        """Exact V(x, y_1:h): the base model's probability of completing a string of reward 1.

        Tabulated over (brackets so far, depth); 0 after a bracket that does not fit, the reward after END.
        """
        table = bracket_law.values(self._law, self.num_types, self.noise, self._rewarded_depth)
        found, ended = self._state_number(latent, prefix, length, table)
        return jnp.maximum(found, ended)

    def _state_number(
        self,
        latent: BracketLatent,
        prefix: Int[Array, " response"],
        length: Int[Array, ""],
        table: Float[np.ndarray, "time levels"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """(table entry of the state after a prefix, reward if the prefix ends in END).

        The entry is 0 where reward 1 is out of reach, the reward 0 without END.
        """
        cut = first_tokens(prefix, length)
        parsed = self._parse(latent, cut)
        brackets = latent.length + length
        found = jnp.asarray(table, jnp.float32)[self._time(brackets), self._level(parsed.depth[length])]
        possible = parsed.legal[length] & (brackets <= self._law.total) & self._shallow(parsed)
        ended = jnp.zeros(()) if self.end_token is None else self.reward(latent, cut)
        return jnp.where(possible, found, 0.0), ended

    @functools.cached_property
    def _entropies(self) -> np.ndarray:
        type_entropy = -math.fsum(p * math.log(p) for p in self._type_probs)
        return bracket_law.entropies(self._law, type_entropy)

    @property
    def string_entropy(self) -> float:
        """Entropy of the whole string, in nats."""
        return float(self._entropies[0, 0])

    def entropy(self, latent: BracketLatent) -> Float[Array, ""]:
        """Entropy of pi_D(.|x) in nats, for this prompt."""
        return jnp.asarray(self._entropies, jnp.float32)[latent.length, latent.depth]

    @property
    def _rewarded_depth(self) -> int | None:
        """Largest depth that the reward allows; None for any."""
        return self.max_depth if self.reward_depth else None

    @functools.cached_property
    def _counts(self) -> tuple[tuple[int, ...], ...]:
        return bracket_law.completions(self._law, self.num_types, self._rewarded_depth)

    def log_num_completions(
        self, latent: BracketLatent, prefix: Int[Array, " response"], length: Int[Array, ""]
    ) -> Float[Array, ""]:
        """ln of the number of responses of reward 1 that begin with y_1:h; -inf if there is none."""
        # Counts would overflow float32.
        table = np.array([[math.log(n) + 1 if n else 0.0 for n in row] for row in self._counts])
        found, ended = self._state_number(latent, prefix, length, table)
        found = jnp.maximum(found, ended)
        return jnp.where(found > 0, found - 1, -jnp.inf)

    def num_completions(self, prefix: str) -> int:
        """Exact number of strings of reward 1 that begin with `prefix` (text without END).

        0 if `prefix` is not a prefix of a balanced string.
        """
        brackets, depths, wrong = self.text.stack_of(prefix)
        if wrong or brackets > self._law.total or (self.reward_depth and max(depths) > self.max_depth):
            return 0
        return self._counts[brackets][min(depths[-1], len(self._counts[0]) - 1)]

    @functools.cached_property
    def mean_length(self) -> float:
        """Mean number of tokens of a string, END counted."""
        occupied = bracket_law.occupancy(self._law.steps)
        if self.end_token is None:
            return float(self._law.total)
        ends = occupied[:, 0] * self._law.steps[:, 0, END]
        return float(np.sum(ends * (np.arange(len(ends)) + 1)))

    def group_entropy(self, group: str) -> float:
        """Exact E_x[H(pi_D(.|x))] in nats over the prompts of a class."""
        if group == "cap":
            return float(self._entropies[self.max_depth, self.max_depth])
        if group == "given":
            return float(self._entropies[len(self._given), self.text.stack_of(self.prefix)[1][-1]])
        first, last = self.prefix_lengths
        rows = []
        for length in range(first, last + 1):
            occupied = bracket_law.occupancy(self._starts[length - first])
            rows.append(np.sum(occupied[length] * self._entropies[length]))
        return float(np.mean(rows))

    def facts(self) -> list[tuple[str, Any]]:
        """Exact properties of pi_D, for display."""
        by_group = [self.group_entropy(group) for group in self.groups]
        mean = math.fsum(p * entropy for p, entropy in zip(self.group_probs, by_group, strict=True))
        possible = bracket_law.completions(self._law, self.num_types, self.max_depth)[0][0]
        found: list[tuple[str, Any]] = [
            ("entropy of a string, nats, exact", f"{self.string_entropy:.4f}"),
            ("mean length of a string, tokens", f"{self.mean_length:.4f}"),
            ("strings of positive probability", f"{possible:,}"),
            ("entropy of pi_D(.|x), nats, exact", f"{mean:.4f}"),
        ]
        if len(by_group) > 1:
            names = [f"... of class {group}" for group in self.groups]
            found += [(name, f"{entropy:.4f}") for name, entropy in zip(names, by_group, strict=True)]
        return found

    @property
    def num_enumerated(self) -> int:
        """Number of balanced strings of any depth if at most `max_enumerated`, else 0."""
        total = bracket_law.completions(self._law, self.num_types, None)[0][0]
        return total if total <= self.max_enumerated else 0

    @functools.cached_property
    def _strings(self) -> np.ndarray:
        """All balanced strings of an accepted length, (strings, tokens), with END if there is one."""
        return self.text.all_strings(np.flatnonzero(self._law.accepts).tolist(), self._num_tokens)

    def enumerate(self, latent: BracketLatent) -> Enumeration:
        """All valid responses; rows are balanced strings, masked to those that begin with the prefix.

        Raises:
            ValueError: if there are more than `max_enumerated` strings.
        """
        if not self.num_enumerated:
            return super().enumerate(latent)
        strings = jnp.asarray(self._strings)
        size = latent.prefix.size
        same = (strings[:, :size] == latent.prefix) | (jnp.arange(size) >= latent.length)
        # A string that ends earlier has END or padding where the prefix has a bracket.
        mask = jnp.all(same, axis=1)
        padded = jnp.pad(strings, ((0, 0), (0, self.response_length)))
        responses = padded[:, latent.length + jnp.arange(self.response_length)]
        return Enumeration(jnp.where(mask[:, None], responses, PAD), mask)
