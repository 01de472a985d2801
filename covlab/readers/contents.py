"""Contents of examples: digests by which they are recognised, and labels that name them to a reader."""

from __future__ import annotations

import hashlib
import json
from typing import Any


class Contents:
    """Digests, labels and sizes of examples by their texts, for sources that share examples.

    No more is kept than `most` characters, so that long prompts of many files do not fill the memory.
    """

    def __init__(self, most: int = 200_000_000) -> None:
        self._known: dict[tuple[str | None, str], tuple[bytes, str, int]] = {}
        self._left = most

    def of(self, prompt: str | None, target: str) -> tuple[bytes, str, int]:
        """`digest(prompt, target)`, a label, and the bytes of the target in UTF-8."""
        found = self._known.get((prompt, target))
        if found is None:
            label = shown(target if prompt is None else prompt)
            found = digest(prompt, target), label, len(target.encode("utf-8", "surrogatepass"))
            self._left -= len(prompt or "") + len(target)
            if self._left >= 0:
                self._known[prompt, target] = found
        return found


# `json.dumps` with these settings would make an encoder for every example.
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str).encode


def digest(*parts: Any) -> bytes:
    """16 bytes that stand for an example's content; texts, numbers, lists and mappings as JSON."""
    text = _encode(parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def shown(content: Any, length: int = 60) -> str:
    """The end of a prompt on one line, for tables and messages: prompts differ at their ends."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= length else "..." + text[3 - length :]
