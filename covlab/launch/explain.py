"""Hydra's errors in one line, with the valid keys of the options that the user chose."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from covlab.launch.chosen import Chosen
from covlab.launch.run_names import override_key


def explain(error: Exception, config_name: str, arguments: Sequence[str] = ()) -> str:
    """Hydra's message in one line, with the valid keys where a key is unknown.

    Args:
        error: raised by Hydra or OmegaConf.
        config_name: the command's file in `conf/`.
        arguments: the command's flags and overrides, whose options decide the valid keys.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    missing = re.search(r"Could not (?:find|load) 'hydra/launcher/(joblib|submitit)", str(error))
    if missing is not None:
        plugin = f"hydra-{missing.group(1)}-launcher"
        return f"{plugin} is not installed, which this launcher needs: pip install -e '.[sweep]'"
    match = re.match(r"Could not override '([^']+)'", lines[0]) if lines else None
    if match is not None:
        key = match.group(1)
        # Without the key at once: a composition that must fail takes as long as one that does not.
        return _unknown_key(
            key, Chosen(config_name, [text for text in arguments if override_key(text) != key])
        )
    if "Config group override must be a string or a list" in str(error):
        return _no_option(Chosen(config_name, arguments)) or " ".join(lines)
    option = re.match(r"In '[^']*': Could not find '([\w./-]+)/([^/']+)'$", lines[0]) if lines else None
    if option is not None and (options := Chosen(config_name, arguments).options(option.group(1))):
        group, name = option.groups()
        return f"{group}: no option {name}; valid are {_listed(name, options)}"
    cause = error.__cause__
    if cause is not None and str(cause) not in str(error):
        lines += [str(cause).splitlines()[0]]
    return " ".join(lines)


def _unknown_key(key: str, command_line: Chosen) -> str:
    """Valid names in place of `key`."""
    config = command_line.compose()
    if not key.startswith("hydra."):
        config.pop("hydra", None)
    parts = key.split(".")
    phased = len(parts) > 2 and parts[0] == "phases" and parts[1] in (config.get("phases") or {})
    if phased and (said := _of_phase(key, config)) is not None:
        return said
    node: Any = config
    for depth, part in enumerate(parts):
        above, name = ".".join(parts[:depth]), ".".join(parts[: depth + 1])
        if not isinstance(node, dict):
            options = command_line.options(above.replace(".", "/")) if node is None else []
            hint = f"; it has keys with one of {', '.join(f'{above}={option}' for option in options)}"
            value = "null" if node is None else repr(node)
            return f"{key}: no such key; {above} is {value}{hint if options else ''}"
        # A group without a chosen option is not in the configuration.
        if part not in node and not (name != key and command_line.options(name.replace(".", "/"))):
            return _among(name, part, [str(each) for each in node], key)
        node = node.get(part)
    return f"{key}: cannot be overridden"


def _of_phase(key: str, config: dict[str, Any]) -> str | None:
    """Valid names for a key below `phases.<phase>`, which states only differences from the run's settings."""
    from covlab.launch.build import PHASE_KEYS
    from covlab.launch.schema import accepted

    _, phase, field, *below = key.split(".")
    if field not in PHASE_KEYS:
        return _among(f"phases.{phase}.{field}", field, PHASE_KEYS, "")
    stated: Any = (config["phases"][phase] or {}).get(field)
    node: Any = config.get(field)
    place = f"phases.{phase}.{field}"
    if isinstance(stated, dict) and isinstance(stated.get("_target_"), str):
        try:
            node = dict.fromkeys(accepted(stated["_target_"], place))
        except ValueError as error:
            return str(error)
    for part in below:
        if not isinstance(node, dict):
            break
        if part not in node:
            return _among(f"{place}.{part}", part, [str(each) for each in node], "")
        node, place = node[part], f"{place}.{part}"
    else:
        return f"{key}: not among what the phase states; a leading + adds it: +{key}=..."
    return None


def _among(name: str, part: str, keys: Sequence[str], key: str) -> str:
    valid = sorted(name for name in keys if name != "_target_")
    if not valid:
        above = name.rpartition(".")[0]
        return f"{name}: no such key; {above} is empty; a leading + adds to it: +{key}=..."
    return f"{name}: no such key; valid are {_listed(part, valid)}"


def _listed(given: str, valid: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, valid, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{', '.join(valid)}{hint}"


def _no_option(command_line: Chosen) -> str | None:
    """A message on the override whose text is not an option of its group."""
    for override in OverridesParser.create().parse_overrides(command_line.overrides):
        options = command_line.options(override.key_or_group)
        if options and not isinstance(override.value(), str | list):
            value = override.get_value_element_as_str()
            return f"{override.key_or_group}: {value} is not one of its options {', '.join(options)}"
    return None
