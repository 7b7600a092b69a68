"""The commands of the project's pages: what a reader copies into a shell.

A page shows commands as an indented block, or in a fence of the language `sh`. A fence of another language, and an
indented block that does not begin as a command does, hold other text.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tests.project.source_tree import ROOT

FENCE = re.compile(r"^\s*(?:```|~~~)\s*(\w*)")
ASSIGNMENT = re.compile(r"^(?:[A-Za-z_]+=\S* )+")
PROGRAM = re.compile(r"[a-z.~/][\w.~/-]*(?= |$)|[a-z]+=\$\(")  # with which a command begins
FILE = re.compile(r"# ([\w./-]+\.\w+)")  # the first line of a block that is a file
COMMENT = re.compile(r"(?:^|\s)#\s.*$")


@dataclass(frozen=True)
class Command:
    """One command of a page, its lines joined, without its comment."""

    page: str
    heading: str
    line: int
    text: str
    comment: str

    def at(self, sentence: str) -> str:
        """Put the command's place before what is wrong with it."""
        return f"{self.page}:{self.line}: {sentence}"


@dataclass(frozen=True)
class File:
    """A fence or another block of a page. One whose first line is a comment with a path is that file, whole."""

    page: str
    heading: str
    line: int
    path: str
    text: str


@dataclass(frozen=True)
class _Line:
    number: int
    heading: str
    language: str | None  # of the block that holds it, "" for an indented one; None: prose
    block: int
    text: str


def pages(root: Path = ROOT) -> list[Path]:
    """Return the pages that people follow, relative to the tree: not the decision records, and not the changes."""
    found = [
        *root.glob("*.md"),
        *root.glob("docs/*.md"),
        *root.glob("docs/how-to/*.md"),
        *root.glob("examples/**/*.md"),
    ]
    return sorted(path.relative_to(root) for path in found if path.name != "CHANGELOG.md")


def commands(page: Path, root: Path = ROOT) -> Iterator[Command]:
    """Yield the commands of a page, in their order."""
    for held in _blocks(page, root):
        if _holds_commands(held):
            yield from _commands(str(page), held)


def shown_files(page: Path, root: Path = ROOT) -> Iterator[File]:
    """Yield the files that a page shows, in their order."""
    return (fence for fence in fences(page, root) if fence.path)


def fences(page: Path, root: Path = ROOT, languages: Collection[str] = ()) -> Iterator[File]:
    """Yield the fences of a page that have a language, or one of some; `path` is empty where none is told."""
    for held in _blocks(page, root):
        language = held[0].language
        if language and (language in languages or not languages):
            name = FILE.fullmatch(held[0].text.strip())
            text = "".join(line.text + "\n" for line in held)
            yield File(str(page), held[0].heading, held[0].number, name[1] if name else "", text)


def indented(page: Path, root: Path = ROOT) -> Iterator[File]:
    """Yield the indented blocks of a page."""
    for held in _blocks(page, root):
        if held[0].language == "":
            yield File(str(page), held[0].heading, held[0].number, "", "".join(line.text + "\n" for line in held))


def every_command(root: Path = ROOT) -> list[Command]:
    """Return the commands of all pages."""
    return [command for page in pages(root) for command in commands(page, root)]


def _blocks(page: Path, root: Path) -> Iterator[list[_Line]]:
    for block, members in groupby(_lines((root / page).read_text("utf-8").splitlines()), lambda line: line.block):
        if block:
            yield list(members)


def _lines(texts: Iterable[str]) -> Iterator[_Line]:
    heading, language, block, indented, after_blank = "", None, 0, False, True
    for number, text in enumerate(texts, 1):
        if fence := FENCE.match(text):
            language = (fence[1] or "text") if language is None else None
            block += 1
            continue
        if language is None and text.startswith("#"):
            heading = text.lstrip("# ")
        was, indented = indented, language is None and text.startswith("    ") and (after_blank or indented)
        block += indented and not was
        after_blank = not text.strip()
        yield _Line(number, heading, "" if indented else language, block if indented or language else 0, text)


def _holds_commands(lines: list[_Line]) -> bool:
    language = lines[0].language
    first = next((line.text.strip() for line in lines if not line.text.strip().startswith("#")), "")
    return language == "sh" or (
        language == "" and bool(PROGRAM.match(first) or PROGRAM.match(ASSIGNMENT.sub("", first)))
    )


def _commands(page: str, lines: list[_Line]) -> Iterator[Command]:
    begun: list[str] = []
    first = lines[0]
    for line in lines:
        text = COMMENT.sub("", line.text.strip()).strip()
        if not text:
            continue
        first = first if begun else line
        begun.append(text.removesuffix("\\").strip())
        if not text.endswith("\\"):
            comment = line.text.strip()[len(text) :].strip(" #")
            yield Command(page, first.heading, first.number, normal(" ".join(begun)), comment)
            begun = []


def normal(text: str) -> str:
    """Return a command as the tests know it, from wherever it is called."""
    return text.replace(".venv/bin/goldsmith", "goldsmith")
