"""The help of each command: its examples, that they are accepted by its parser, and what a mistyped word is told."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer._click.exceptions import UsageError

from goldsmith.cli.app import app
from goldsmith.cli.examples import EXAMPLES
from tests.goldsmith.command_line import Commands


def all_commands(command: Any, name: str = "goldsmith") -> Iterator[tuple[str, Any]]:
    """Every command and group, by what is typed for it."""
    yield name, command
    for child, below in getattr(command, "commands", {}).items():
        yield from all_commands(below, f"{name} {child}")


COMMANDS = dict(all_commands(typer.main.get_command(app)))


def parse(words: list[str]) -> str:
    """Parse a command line, and run nothing; return the command that it is of. UsageError."""
    command: Any = COMMANDS["goldsmith"]
    context, name, rest = None, words[0], words[1:]
    while True:
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "commands"):
            return str(context.command_path)
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


def of_a_shell(line: str) -> list[str]:
    """The words of a command that stands in a line of a shell: in $(...), or with its output in a file."""
    line = line.removeprefix("image=$(").removesuffix(")").partition(" > ")[0]
    return shlex.split(line)


def test_each_command_has_an_example_and_no_other_has() -> None:
    assert set(EXAMPLES) == set(COMMANDS)
    assert all(EXAMPLES.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_accepted_by_the_parser(name: str) -> None:
    for line in EXAMPLES[name]:
        assert len(line) <= 110, line
        parsed = parse(of_a_shell(line))
        assert parsed.startswith(name), line
        assert name == parsed or hasattr(COMMANDS[name], "commands"), line


@pytest.mark.parametrize("line", ["goldsmith build", "goldsmith build x --nothing", "goldsmith builds shw x"])
def test_an_example_that_is_wrong_would_be_seen(line: str) -> None:
    with pytest.raises(UsageError):
        parse(of_a_shell(line))


def test_help_ends_with_the_examples(run: Commands) -> None:
    for name in ("goldsmith", "goldsmith build", "goldsmith builds", "goldsmith builds logs"):
        done = run(*name.split()[1:], "--help")
        assert done.status == 0
        head, *lines = done.out[done.out.index("\nExample") :].strip().splitlines()
        assert head == "Examples:"
        assert [line.strip() for line in lines] == list(EXAMPLES[name])


def test_help_of_dib_which_writes_its_own_ends_with_its_example(run: Commands) -> None:
    assert run("dib", "--help").out.splitlines()[-2:] == ["Example:", f"  {EXAMPLES['goldsmith dib'][0]}"]


def test_options_of_a_build_are_in_sections(run: Commands) -> None:
    out = run("build", "--help").out
    heads = [line for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert heads == [
        *("Arguments:", "What is made:", "How it is built:", "When a step fails:", "Options:", "Examples:")
    ]
    assert out.index("--keep-on-failure") > out.index("When a step fails:") > out.index("--boot")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("buld", "x"), "Did you mean 'build'"),
        (("builds", "lst"), "Did you mean 'list'?"),
        (("logs", "x"), "Did you mean 'goldsmith builds logs'?"),
        (("delete", "x"), "Did you mean 'goldsmith images delete'?"),
        (("build", "x", "--outptu", "y"), "Did you mean --output?"),
        (("builds", "list", "--version"), "goldsmith --version builds list"),
    ],
)
def test_what_was_meant_is_named(run: Commands, words: tuple[str, ...], told: str) -> None:
    done = run(*words)
    assert done.status == 2
    assert told in done.err


def test_json_and_quiet_exclude_each_other(run: Commands, tmp_path: Path) -> None:
    done = run("build", tmp_path / "x.yaml", "--json", "--quiet")
    assert (done.status, "leave one out" in done.err) == (2, True)
