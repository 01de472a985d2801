"""Files with the parameters of a checkpoint alone: `.npz` archives that NumPy opens without this project."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

BLOCK = 4096
"""Bytes of a block, the unit in which file systems commonly allocate space."""
_SHA256 = "sha256"


class Misfit(ValueError):
    """Saved arrays whose names, shapes or types differ from the expected ones. The file is not damaged."""


def described(tree: Any) -> dict[str, str]:
    """Name of every array -> type and shape of the array, such as `float32[3,5]`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): _description(leaf.dtype, leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def require_fit(found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Compare arrays by their descriptions (`described`), for readers that would accept a misfit silently.

    Orbax is such a reader. It restores an array that was saved from NumPy in the saved shape, whatever shape
    is requested, and converts any array to the requested type.

    Raises:
        Misfit: an array differs; the message names the first one, with both descriptions.
        ValueError: nothing was found, but something is expected.
    """
    if expected and not found:
        raise ValueError("its metadata names no arrays")
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            asked, there = (own.get(name, "nothing") for own in (expected, found))
            raise Misfit(f"does not fit the model: {name}: expected {asked}, found {there}")


def digest(tree: Any, entry: dict[str, Any] | None = None) -> str:
    """SHA-256, in hexadecimal, of a tree's names, types, shapes and bytes and of a JSON object."""
    whole = hashlib.sha256(json.dumps(entry, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        whole.update(f"{jax.tree_util.keystr(path)} {array.dtype} {np.shape(leaf)}".encode())
        whole.update(array.reshape(-1).view(np.uint8).data)
    return whole.hexdigest()


def disk_bytes(shapes: Any) -> int:
    """Size on disk of the file of a tree with these shapes and types, in bytes of whole blocks."""
    size = 1024
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        # A local and a central record of the archive name the array; the header of the array is 128 bytes.
        size += leaf.size * leaf.dtype.itemsize + 2 * len(jax.tree_util.keystr(path)) + 256
    return -(-size // BLOCK) * BLOCK


def write_parameters(path: Path, tree: Any) -> None:
    """Write the arrays of `tree` under their names in the tree, and the `digest`, whole or not at all.

    Equal trees give equal bytes.

    Raises:
        OSError: the disk refuses; no partial file is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name, leaf in _named(tree):
                    # A type that NumPy lacks, such as bfloat16, is saved as bytes: the reader knows the type.
                    plain = leaf if leaf.dtype.isbuiltin else leaf.view(f"V{leaf.dtype.itemsize}")
                    _add(archive, name, plain)
                _add(archive, _SHA256, np.array(digest(tree)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The rename is durable only once the entry of the directory is on disk.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_parameters(path: Path, abstract: Any) -> Any:
    """Arrays of a file of `write_parameters`, in a tree with the shapes and types of `abstract`.

    Raises:
        Misfit: names, shapes or types of the arrays differ from `abstract`.
        ValueError: the contents differ from what was written.
        OSError, zipfile.BadZipFile: the file cannot be read.
    """
    expected = dict(_named(abstract))
    saved = read_digest(path)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name != _SHA256}
    for name, array in arrays.items():
        wanted = expected.get(name)
        # A type that NumPy lacks, such as bfloat16, was saved as bytes.
        if wanted is not None and array.dtype.kind == "V" and array.dtype.itemsize == wanted.dtype.itemsize:
            arrays[name] = array.view(wanted.dtype)
    found = {_simple(name): _description(array.dtype, array.shape) for name, array in arrays.items()}
    require_fit(found, described(abstract))
    leaves = [arrays[name] for name in expected]
    tree = jax.tree.unflatten(jax.tree.structure(abstract), leaves)
    if saved != digest(tree):
        raise ValueError("its contents differ from what was saved: it is damaged")
    return tree


def read_digest(path: Path) -> str:
    """Read the `digest` in a file of `write_parameters`, without the arrays.

    Raises:
        ValueError, KeyError, OSError, zipfile.BadZipFile: the file cannot be read.
    """
    with np.load(path, allow_pickle=False) as archive:
        return str(archive[_SHA256].item())


def _description(dtype: Any, shape: Sequence[int]) -> str:
    return f"{np.dtype(dtype)}[{','.join(map(str, shape))}]"


def _simple(name: str) -> str:
    """Rewrite `['blocks'][0].kernel` as `blocks.0.kernel`, the simple form of JAX's `keystr`."""
    return ".".join(re.findall(r"[^\[\]'.]+", name))


def _named(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), allow_pickle=False)
    # The fixed date of a bare ZipInfo keeps equal files equal.
    archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue())
