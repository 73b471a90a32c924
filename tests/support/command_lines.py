"""What a command line means to the program that would be given it."""

from __future__ import annotations

from typing import Any

import click


def parse(command: click.Command, arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """What the command line interface makes of the arguments; raises `click.UsageError` where it would complain."""
    name = command.name or ""
    while isinstance(command, click.Group):
        name, found, arguments = command.resolve_command(click.Context(command), arguments)
        assert found is not None and name
        command = found
    return name, command.make_context(name, arguments).params
