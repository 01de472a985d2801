"""Outputs of vLLM as docs/real_models.md saves them: a JSON line per prompt, with its outputs.

    {"prompt": "2+3=", "target": "5", "outputs": [{"text": "5", "finish_reason": "stop"}, ...]}

`target` and `correct` of an output are optional: without `correct` a verifier judges the texts.
`cumulative_logprob` is the probability that a model gives to its own response, not to a held-out one, and is
not read.
"""

from __future__ import annotations

from pathlib import Path

from covlab.readers.base import Checkpoint, Collector, Wanted, first_record, json_lines
from covlab.readers.contents import digest, shown
from tracking import LoadError


class Reader:
    """vLLM."""

    name = "vllm"
    summary = "vLLM: JSON lines with prompt and outputs, as the guide saves them"

    def recognises(self, source: Path) -> bool:
        """True for a JSON Lines file whose first line has a prompt and outputs."""
        return source.suffix == ".jsonl" and {"prompt", "outputs"} <= first_record(source).keys()

    def read(self, source: Path, wanted: Wanted) -> list[Checkpoint]:
        """The file as one checkpoint.

        Raises:
            ValueError: outputs that are not judged, a prompt that occurs twice, a torn file.
        """
        collector = Collector(source)
        judge = wanted.judge()
        truncated = 0
        seen: set[bytes] = set()
        for number, record in json_lines(source):
            where = f"{source}: line {number}"
            prompt, outputs = record.get("prompt"), record.get("outputs")
            if prompt is None or not isinstance(outputs, list) or not outputs:
                raise LoadError(f"{where}: no prompt, or no list outputs")
            content = digest(prompt, record.get("target"))
            if content in seen:
                raise LoadError(f"{where}: the prompt {shown(prompt)!r} occurs twice")
            seen.add(content)
            row = collector.place(None, content, shown(prompt))
            for place, output in enumerate(outputs):
                if judge is not None:
                    right: bool | None = judge(str(output.get("text")), record.get("target"), record)
                elif "correct" in output:
                    right = wanted.is_right(f"{where}: correct", output["correct"])
                else:
                    raise LoadError(
                        f"{where}: no correct; valid: judged outputs, or verifier=<module>:<function>"
                    )
                truncated += output.get("finish_reason") == "length"
                collector.sample(row, right, place)
        if truncated:
            collector.notes.append(f"{source}: {truncated} responses were cut off at the token limit")
        return [collector.checkpoint(str(source))]


READER = Reader()
