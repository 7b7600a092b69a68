"""Where the cursor is in a half-typed command line, and what fits there.

A shell waits for this at each press of Tab. The words are followed through the commands without converting values:
typer's own completion converts them, and loads Pydantic for it, which is half of the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from typer import Context
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

FILES, FOLDERS, WORDS = "files", "folders", "words"
"""What a shell completes by itself, or that it has only the words that are offered."""
LONGEST_ABOUT = 200  # letters of what a word means; shells cut it to the screen
_FILE = re.compile(r"FILE|SPEC|\b[AB]\b|OPTION")  # in a metavar, what is also a path; `dib` takes any
_SAFE = re.compile(r"[\w.:/@%+,=-]+", re.ASCII)  # no shell has to quote these


@dataclass(frozen=True)
class Offer:
    """One word, and what it means."""

    word: str
    about: str = ""


@dataclass(frozen=True)
class Offers:
    """Words that fit; without any, what the shell completes by itself."""

    kind: str
    offers: tuple[Offer, ...] = ()
    prefix: str = ""  # of a path: `--output=`, which the word begins with


@dataclass
class _Line:
    """What has been typed before the word at the cursor."""

    context: Context
    waiting: TyperOption | None = None  # for its value
    arguments: list[str] = field(default_factory=list)
    options: set[str] = field(default_factory=set)  # those given, by their parameters' names
    only_arguments: bool = False  # behind `--`

    @property
    def command(self) -> TyperCommand | TyperGroup:
        command = self.context.command
        assert isinstance(command, TyperCommand | TyperGroup)
        return command

    def option(self, name: str) -> TyperOption | None:
        """Return the option of the command that is called so."""
        found = (each for each in _options(self.context) if name in (*each.opts, *each.secondary_opts))
        return next(found, None)


def offers_at_cursor(program: TyperGroup, words: Sequence[str], incomplete: str) -> Offers:
    """Return what fits at the cursor: behind these words, and beginning with the incomplete one."""
    line = _Line(Context(program, info_name="goldsmith", resilient_parsing=True))
    for word in words:
        if not _follow(line, word):
            return Offers(WORDS)
    if line.waiting is not None:
        return _values(line, line.waiting, incomplete, "")
    if incomplete.startswith("-") and not line.only_arguments:
        name, equals, value = incomplete.partition("=")
        option = line.option(name)
        if not equals:
            return Offers(WORDS, tuple(_option_names(line, incomplete)))
        return Offers(WORDS) if option is None or option.is_flag else _values(line, option, value, f"{name}=")
    if isinstance(line.command, TyperGroup):
        return Offers(WORDS, tuple(_commands(line.command, incomplete)))
    argument = _argument(line)
    return Offers(WORDS) if argument is None else _values(line, argument, incomplete, "")


def _follow(line: _Line, word: str) -> bool:
    """Take one more word; return whether the line is one so far."""
    if line.waiting is not None:
        line.context.params[line.waiting.name or ""] = word
        line.waiting = None
    elif word == "--" and not line.only_arguments:
        line.only_arguments = True
    elif word.startswith("-") and word != "-" and not line.only_arguments:
        _follow_option(line, word)
    elif isinstance(line.command, TyperGroup):
        command = line.command.commands.get(word)
        if command is None:
            return False
        line.context = Context(command, info_name=word, parent=line.context, resilient_parsing=True)
    else:
        line.arguments.append(word)
    return True


def _follow_option(line: _Line, word: str) -> None:
    name, equals, value = word.partition("=")
    option = line.option(name)
    if option is None:  # a mistake, or flags such as -qf; what follows may be right
        return
    line.options.add(option.name or "")
    if option.is_flag:
        return
    if equals:
        line.context.params[option.name or ""] = value
    else:
        line.waiting = option


def _options(context: Context) -> list[TyperOption]:
    return [each for each in context.command.get_params(context) if isinstance(each, TyperOption)]


def _option_names(line: _Line, incomplete: str) -> Iterator[Offer]:
    for option in _options(line.context):
        if option.hidden or (option.name in line.options and not option.multiple):
            continue
        for name in (*option.opts, *option.secondary_opts):
            if name.startswith(incomplete):
                yield Offer(name, _one_line(option.help or ""))


def _commands(group: TyperGroup, incomplete: str) -> Iterator[Offer]:
    for name, command in group.commands.items():
        if name.startswith(incomplete) and not command.hidden:
            yield Offer(name, _one_line(command.get_short_help_str(LONGEST_ABOUT)))


def _argument(line: _Line) -> TyperArgument | None:
    """Return the argument that the word at the cursor is for."""
    given = len(line.arguments)
    for parameter in line.command.get_params(line.context):
        if isinstance(parameter, TyperArgument):
            if parameter.nargs < 0 or given < parameter.nargs:
                return parameter
            given -= parameter.nargs
    return None


def _values(line: _Line, parameter: TyperArgument | TyperOption, incomplete: str, prefix: str) -> Offers:
    """Return what an argument or option may be; `prefix` stands before it in the same word."""
    found = parameter.shell_complete(line.context, incomplete)
    offers = tuple(
        Offer(f"{prefix}{item.value}", _one_line(item.help or ""))
        for item in found
        if item.value not in line.arguments and _SAFE.fullmatch(item.value)
    )
    metavar = parameter.metavar or ""
    if not offers and ("FOLDER" in metavar or _FILE.search(metavar)):
        return Offers(FOLDERS if "FOLDER" in metavar else FILES, prefix=prefix)
    return Offers(WORDS, offers)


def _one_line(text: str) -> str:
    """Return text that a shell can show behind a word."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))[:LONGEST_ABOUT]
