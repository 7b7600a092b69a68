"""docs/command-line.md and the command line have the same commands, arguments and options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from goldsmith.cli.app import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "command-line.md"
Commands = dict[str, tuple[list[str], set[str]]]  # by name: arguments, and options in all their forms


def of_the_app() -> Commands:
    return dict(_walk("goldsmith", typer.main.get_command(app)))


def _walk(name: str, command: Any) -> Iterator[tuple[str, tuple[list[str], set[str]]]]:
    children = getattr(command, "commands", None)
    if children is not None:
        for child, below in children.items():
            yield from _walk(f"{name} {child}", below)
        return
    arguments = [p.metavar for p in command.params if p.param_type_name == "argument"]
    options = {form for p in command.params if p.param_type_name == "option" for form in p.opts + p.secondary_opts}
    yield name, (arguments, options - {"--help"})


def of_the_page(text: str) -> Commands:
    found: Commands = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        words = section.splitlines()[0].split()
        name = " ".join(word for word in words if word.islower())
        rows = re.findall(r"^\| (`-.*?) \| ", section, re.MULTILINE)
        options = {form for row in rows for form in re.findall(r"`(--?[a-z][a-z-]*)", row)}
        found[name] = ([word for word in words if word.isupper()], options)
    return found


def test_page_has_the_commands_that_there_are() -> None:
    assert of_the_page(PAGE.read_text(encoding="utf-8")) == of_the_app()


def test_a_missing_option_would_be_seen() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("`, `-f`", "`")
    assert of_the_page(text) != of_the_app()
    assert of_the_page(text)["goldsmith builds logs"] == (["BUILD"], {"--follow", "--project", "--bucket", "--script"})
