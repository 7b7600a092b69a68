"""How the project's rules see its documents: lines of prose, and lines and spans of code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.project.source_tree import files

FENCE = re.compile(r"^\s*(```|~~~)")
CODE_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Line:
    """One line of a document."""

    path: Path  # relative to the tree
    number: int
    text: str
    is_code: bool  # within a fence, or indented as code

    def at(self, sentence: str) -> str:
        """Put the line's place before what is wrong with it."""
        return f"{self.path}:{self.number}: {sentence}"

    def spans(self) -> list[str]:
        """Return the code spans of a line of prose."""
        return [] if self.is_code else CODE_SPAN.findall(self.text)


def documents(root: Path) -> list[Path]:
    """Return the tree's Markdown files, sorted."""
    return files(root, ".md")


def lines(path: Path, root: Path) -> Iterator[Line]:
    """Yield a document's lines, without the fences themselves."""
    fenced, after_blank, indented = False, True, False
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if FENCE.match(text):
            fenced = not fenced
            continue
        indented = text.startswith(("    ", "\t")) and (after_blank or indented)
        after_blank = not text.strip()
        yield Line(path.relative_to(root), number, text, fenced or indented)


def headings(path: Path, level: int, root: Path) -> list[Line]:
    """Return a document's headings of one level (1 is the title), without their marks."""
    mark = "#" * level + " "
    return [
        Line(line.path, line.number, line.text.removeprefix(mark).strip(), is_code=False)
        for line in lines(path, root)
        if not line.is_code and line.text.startswith(mark)
    ]
