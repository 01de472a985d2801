"""Samples of large_language_monkeys: a folder with one YAML file per problem.

A file has `samples` and, once judged, `is_corrects`, a truth value for each sample. The file's name is the
problem's id.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from covlab.readers.base import Checkpoint, Collector, Wanted
from covlab.readers.contents import digest, shown
from tracking import LoadError
from tracking.metric_names import natural


class Reader:
    """large_language_monkeys."""

    name = "monkeys"
    summary = "large_language_monkeys: a folder with one YAML file per problem"

    def recognises(self, source: Path) -> bool:
        """True for a folder of YAML files that have samples."""
        file = next(iter(_files(source)), None)
        if file is None:
            return False
        with file.open(encoding="utf-8", errors="replace") as stream:
            return any(line.startswith(("samples:", "is_corrects:")) for line in stream)

    def read(self, source: Path, wanted: Wanted) -> list[Checkpoint]:
        """The folder as one checkpoint.

        Raises:
            ValueError: samples that are not judged, lists of different lengths, files that cannot be read.
        """
        collector = Collector(source)
        judge = wanted.judge()
        for file in _files(source):
            content = _content(file)
            samples = content.get("samples")
            if not isinstance(samples, list):
                raise LoadError(f"{file}: no list samples")
            question = content.get("question", content.get("prompt", ""))
            row = collector.place(file.stem, digest(file.stem, question), shown(f"{file.stem} {question}"))
            if judge is not None:
                right: list[bool | None] = [
                    judge(str(sample), content.get("gt_answer"), content) for sample in samples
                ]
            else:
                right = _judged(file, content.get("is_corrects"), len(samples))
            for place, verdict in enumerate(right):
                collector.sample(row, verdict, place)
        return [collector.checkpoint(str(source))]


READER = Reader()


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return []
    paths = [*source.glob("*.yaml"), *source.glob("*.yml")]
    return sorted(paths, key=lambda path: natural(path.stem))


def _content(file: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LoadError(f"{file}: not readable YAML: {' '.join(str(error).split())[:100]}") from None
    if not isinstance(content, dict):
        raise LoadError(f"{file}: not a mapping; valid: samples and is_corrects")
    return content


def _judged(file: Path, given: Any, samples: int) -> list[bool | None]:
    if given is None:
        raise LoadError(f"{file}: no is_corrects; valid: judged samples, or verifier=<module>:<function>")
    if not isinstance(given, list) or len(given) != samples:
        raise LoadError(f"{file}: {samples} samples, and is_corrects of another length")
    if any(value is not None and not isinstance(value, bool) for value in given):
        raise LoadError(f"{file}: is_corrects: holds other values than true and false")
    return list(given)
