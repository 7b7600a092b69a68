"""Writes the manual page from the command line and docs/command-line.md: `python -m tests.goldsmith.man_page`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from goldsmith.cli.app import app
from goldsmith.cli.examples import EXAMPLES
from goldsmith.version import RELEASE

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "goldsmith.1"
DESCRIPTION = """\
Goldsmith builds golden images for Compute Engine from one spec. It boots a virtual machine from a source image, or
enters a sandbox, runs the steps of the spec, removes everything that belongs to that one machine, checks the result,
and makes an image. The same spec builds the same image on this machine and on Google Cloud."""


def manual_page() -> str:
    """Return the page, in the macros of man(7)."""
    return "\n".join([*_lines(), ""])


def _lines() -> Iterator[str]:
    command: Any = typer.main.get_command(app)
    reference = (DOCS / "command-line.md").read_text(encoding="utf-8")
    yield f'.TH GOLDSMITH 1 "" "goldsmith {RELEASE}" "User Commands"'
    yield from (".SH NAME", r"goldsmith \- build golden images")
    yield from (".SH SYNOPSIS", r".B goldsmith", r".RI [ options ]", r".I command", r".RI [ arguments ]")
    yield from (".SH DESCRIPTION", DESCRIPTION)
    yield from (".SH OPTIONS", *_options(command))
    yield from (".SH COMMANDS", *_commands("", command))
    yield from (".SH ENVIRONMENT", *_table(reference, "environment variable"))
    yield from (".SH EXIT STATUS", *_table(reference, "exit status"))
    yield from (".SH FILES", ".TP", r".I ~/.local/share/goldsmith")
    yield "The state of this machine, where GOLDSMITH_HOME names no other folder."
    yield from (".SH SEE ALSO", r"qemu\-img(1), gcloud(1)")


def _commands(name: str, command: Any) -> Iterator[str]:
    for child, below in command.commands.items():
        if hasattr(below, "commands"):
            yield from _commands(f"{name}{child} ", below)
        else:
            arguments = [parameter.metavar for parameter in below.params if parameter.param_type_name == "argument"]
            yield f".SS goldsmith {_plain(' '.join([name + child, *arguments]))}"
            yield _plain(" ".join(below.help.split()))
            yield from _options(below)
            lines = [_plain(line) for line in EXAMPLES.get(f"goldsmith {name}{child}", ())]
            yield from (".TP", r"\fBExamples\fR", ".nf", *lines, ".fi")


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            value = "" if parameter.is_flag else f" {parameter.metavar}"
            yield from (".TP", rf"\fB{_plain(', '.join(parameter.opts))}\fR{_plain(value)}")
            yield _plain(parameter.help)


def _table(page: str, head: str) -> Iterator[str]:
    """Turn the rows of a table of docs/command-line.md into entries: the first cell, and what it means."""
    rows = page.partition(f"| {head} | meaning |")[2].splitlines()[2:]
    for row in rows:
        if not row.startswith("| "):
            return
        first, meaning = (_plain(_without_links(cell)) for cell in row.strip("| ").split(" | ")[:2])
        yield from (".TP", rf"\fB{first}\fR", meaning)


def _without_links(text: str) -> str:
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("`", "")


def _plain(text: str) -> str:
    """Return text in which nothing is taken for a macro."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("`", "")
    return rf"\&{escaped}" if escaped[:1] in (".", "'") else escaped


if __name__ == "__main__":
    PAGE.write_text(manual_page(), encoding="utf-8")
