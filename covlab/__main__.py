"""The command `covlab`: every command and claim, from any folder.

    covlab train task=dyck seeds=4
    covlab figure1 scale=cpu
    covlab my_package.my_command key=value

`python -m covlab` is the same. A dotted name is a module of the user's, run as by `python -m`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from covlab.launch.commands import EXIT_USER_ERROR, Command, command_of, commands, overview, say
from covlab.launch.import_path import search_here_last


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    search_here_last()
    flag = given[0] if given else "--help"
    try:
        if flag in ("--help", "-h"):
            say(overview(commands()))
            return 0
        if flag in ("--version", "-V"):
            from importlib.metadata import version

            print(f"covlab {version('covlab')}")
            return 0
        if flag in ("--completion", "--complete"):
            from covlab.launch import completion

            return completion.main(flag, given[1:], _configured)
        command = command_of(flag)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    sys.argv = [f"covlab {command.name}", *given[1:]]
    start(command)
    return 0


def start(command: Command) -> None:
    """Run a command with the arguments in `sys.argv`, as `python -m` would.

    The command line of a claim is read before the claim's modules are imported: a mistyped key is answered
    before JAX is loaded.
    """
    known = command.is_claim or command.module.startswith("experiments.")
    if known and {"--help", "-h"} & set(sys.argv[1:]):
        say(_page(command))
    elif command.is_claim and (config_name := _configured(command)) is not None:
        from covlab.launch import cli

        cli.command(config_name, _judge(command.module), module=command.module)()
    else:
        import runpy

        runpy.run_module(command.module, run_name="__main__", alter_sys=True)


def _page(command: Command) -> str:
    from covlab.launch import help, schema

    schema.register_schemas()
    config_name = _configured(command)
    if config_name is None:
        return help.docstring_page(command.name, command.module)
    return help.page(command.name, config_name, command.module, sys.argv[1:])


def _configured(command: Command) -> str | None:
    """The name of a command's configuration, stored first for a claim that has no file in `conf/`; None for a
    command without one."""
    if command.config_name is not None or not command.is_claim:
        return command.config_name
    from covlab.claims import stored

    if stored.store_from_source(command.name, command.module):
        return command.name
    import importlib

    from covlab.claims import claim

    stated = importlib.import_module(command.module).CLAIM
    claim.register(stated)
    return str(stated.name)


def _judge(module: str) -> Callable[[Any], int]:
    def run(config: Any) -> int:
        import importlib

        from covlab.claims import claim

        return claim.run(importlib.import_module(module).CLAIM, config)

    return run


if __name__ == "__main__":
    sys.exit(main())
