"""Commands whose help has sections and examples, and whose errors name what was meant."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import typer
import typer.main
from typer._click import Command, Context, HelpFormatter
from typer._click.exceptions import NoSuchOption, UsageError
from typer.core import TyperCommand, TyperGroup

from .examples import EXAMPLES

BUILD, SPECS, RESULTS, MACHINE = "Build an image", "Specs", "What there is", "This machine"
LOOK, MAKE, PUBLISHED = "See what there is", "Make, bring and remove", "Published images"
SECTIONS = (BUILD, SPECS, RESULTS, MACHINE, LOOK, MAKE, PUBLISHED)
"""The sections of the commands, in their order."""
PAGED = (
    *("goldsmith builds list", "goldsmith builds show", "goldsmith builds logs"),
    *("goldsmith images list", "goldsmith images show", "goldsmith images lineage", "goldsmith images diff"),
    *("goldsmith cache list", "goldsmith elements tree", "goldsmith elements explain", "goldsmith gpu-drivers"),
)
"""The commands whose output may be longer than a screen."""
LONGEST_LINE = 200  # letters of what a command does, in its group's help; none is that long


class ExampledCommand(TyperCommand):
    """A command: its options in the sections that they name, and after them its examples."""

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write its arguments and options."""
        _write_parameters(self, ctx, formatter)

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the examples."""
        _write_examples(ctx, formatter)

    def invoke(self, ctx: Context) -> Any:
        """Run it; what is for a person to read, and may be long, is shown in a pager."""
        if ctx.command_path not in PAGED or any(ctx.params.get(option) for option in ("json", "follow")):
            return super().invoke(ctx)
        from ..screen.pager import paged

        with paged():
            return super().invoke(ctx)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse what stands behind the command. NoSuchOption says where an option of the program stands."""
        try:
            return super().parse_args(ctx, args)
        except NoSuchOption as error:
            _name_the_place(error, ctx)
            raise


class SectionedGroup(TyperGroup):
    """A group: its commands in the sections that they name, and after them the group's examples."""

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write its commands, and then its own options."""
        sections: dict[str, list[tuple[str, Command]]] = {section: [] for section in SECTIONS}
        for name, command in self.commands.items():
            if not command.hidden:
                sections.setdefault(_section(command) or "Commands", []).append((name, command))
        width = max(map(len, self.commands))
        for title, commands in ((title, commands) for title, commands in sections.items() if commands):
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), each.get_short_help_str(LONGEST_LINE)) for name, each in commands]
                )
        _write_parameters(self, ctx, formatter)

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the examples."""
        _write_examples(ctx, formatter)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Return the command that a word names. UsageError names others that are called so, in groups below too."""
        try:
            return super().resolve_command(ctx, args)
        except UsageError as error:
            below = [f"{ctx.command_path} {path}" for path in _paths_ending_in(self, args[0])]
            if below and "Did you mean" not in error.message:
                error.message = f"{error.message.rstrip('.')}. Did you mean {' or '.join(map(repr, below))}?"
            raise


class LaterGroup(SectionedGroup):
    """A group below another one, whose commands are made when they are asked for: to make all takes 20 ms."""

    def __init__(self, name: str, group: CommandGroup, section: str) -> None:
        super().__init__(
            name=name, help=group.about, no_args_is_help=True, rich_markup_mode=None, rich_help_panel=section
        )
        self._group = group
        del self.commands

    def __getattr__(self, name: str) -> Any:
        """Return the commands, and keep them."""
        if name != "commands":
            raise AttributeError(name)
        made = typer.main.get_command(self._group)
        assert isinstance(made, TyperGroup)
        self.commands = made.commands
        return self.commands


class CommandGroup(typer.Typer):
    """A group of commands, each of which has its examples in examples.py."""

    def __init__(self, about: str) -> None:
        self.about = about
        self._below: list[LaterGroup] = []
        below = self._below

        class WithGroups(SectionedGroup):
            """The group, with those that were added to it."""

            def __init__(self, **settings: Any) -> None:
                super().__init__(**settings)
                for group in below:
                    self.add_command(group)

        super().__init__(
            help=about,
            cls=WithGroups,
            no_args_is_help=True,
            add_completion=False,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,
        )

    def add_group(self, name: str, group: CommandGroup, section: str) -> None:
        """Add a group below this one."""
        self._below.append(LaterGroup(name, group, section))

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = ExampledCommand, **settings: Any
    ) -> Callable[[Any], Any]:
        """Return what makes a function a command."""
        return super().command(name, cls=cls, **settings)


def _section(part: object) -> str | None:
    """Return the section of a command or parameter; None for the first one."""
    found = getattr(part, "rich_help_panel", None)
    return found if isinstance(found, str) else None


def _write_parameters(command: Command, ctx: Context, formatter: HelpFormatter) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            first = "Arguments" if parameter.param_type_name == "argument" else "Options"
            sections.setdefault(_section(parameter) or first, []).append(record)
    last = sections.pop("Options")
    for title, records in {**sections, "Options": last}.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def _write_examples(ctx: Context, formatter: HelpFormatter) -> None:
    examples = EXAMPLES.get(ctx.command_path, ())
    if examples:
        with formatter.section("Examples" if len(examples) > 1 else "Example"):
            formatter.write("".join(f"{'':{formatter.current_indent}}{line}\n" for line in examples))


def _paths_ending_in(group: TyperGroup, word: str) -> list[str]:
    """Return the commands of the groups below a group that are called like a word, or nearly so."""
    below = {
        f"{name} {child}": child
        for name, command in group.commands.items()
        if isinstance(command, TyperGroup)
        for child in command.commands
    }
    near = get_close_matches(word, set(below.values()), n=1, cutoff=0.8)
    return [path for path, child in below.items() if child in near]


def _name_the_place(error: NoSuchOption, ctx: Context) -> None:
    """Say which option was meant, or where one stands that the program has, and this command does not."""
    root = ctx.find_root().command
    if any(error.option_name in parameter.opts for parameter in root.params):
        words = ctx.command_path.partition(" ")
        error.message += f". It stands before the command: {words[0]} {error.option_name} {words[2]}"
        error.possibilities = None
    elif error.possibilities:
        error.message += f". Did you mean {' or '.join(sorted(error.possibilities))}?"
        error.possibilities = None
