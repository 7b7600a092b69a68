"""Each command of a page is run by a test, or is in NOT_RUN with a reason; programs know the options of all of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.not_run import NOT_RUN
from tests.docs.options import unknown_options
from tests.docs.pages import Command, commands, every_command, normal, pages
from tests.docs.reader import NEEDS_TERMINAL
from tests.project.documents import lines
from tests.project.source_tree import ROOT

READERS = ("tests/docs", "tests/cloud", "tests/system", "tests/terraform")  # where tests follow the pages


@cache
def run() -> frozenset[str]:
    """Return the commands that tests type, open or follow, by the calls in their source."""
    return frozenset(text for folder in READERS for path in (ROOT / folder).glob("test_*.py") for text in _typed(path))


def listed() -> frozenset[str]:
    """Return the commands that no test runs, for a reason."""
    return frozenset(text for texts in NOT_RUN.values() for text in texts)


def _typed(path: Path) -> Iterator[str]:
    source = path.read_text("utf-8")
    if "tests.docs.reader" not in source:
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            if node.func.attr in {"types", "opens"} and texts:
                yield texts[0]
            if node.func.attr == "follows":
                found = (each for each in every_command() if texts in ([each.page, each.heading], [each.page]))
                yield from (
                    each.text for each in found if each.text not in listed() and NEEDS_TERMINAL not in each.text
                )


def unplaced(found: list[Command], placed: frozenset[str]) -> list[str]:
    """Return the commands that have no place, each with what to do."""
    return [
        command.at(f"no test runs {command.text!r}: have a reader type it, or list it in tests/docs/not_run.py")
        for command in found
        if command.text not in placed
    ]


def test_every_command_is_run_or_has_a_reason() -> None:
    found = unplaced(every_command(), run() | listed())
    assert not found, "\n".join(found)


def test_a_new_command_is_found(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A\n\n    goldsmith made up  # new\n\n```sh\ncd out && \\\n  ls\n```\n")
    found = list(commands(Path("README.md"), tmp_path))
    assert [(each.text, each.comment) for each in found] == [("goldsmith made up", "new"), ("cd out && ls", "")]
    assert unplaced(found, frozenset({"cd out && ls"})) == [
        "README.md:3: no test runs 'goldsmith made up': have a reader type it, or list it in tests/docs/not_run.py"
    ]


def test_no_reason_is_left_over() -> None:
    known = {command.text for command in every_command()}
    assert [text for text in listed() if text not in known or text in run()] == []
    assert len(listed()) == sum(len(texts) for texts in NOT_RUN.values())


def test_programs_know_the_options_of_all_commands() -> None:
    found = [command.at(fault) for command in every_command() for fault in unknown_options(command.text)]
    assert not found, "\n".join(found)


def test_programs_know_the_options_of_commands_in_sentences() -> None:
    found = [
        line.at(fault)
        for page in pages()
        for line in lines(ROOT / page, ROOT)
        for span in line.spans()
        if span.startswith(("goldsmith ", ".venv/bin/goldsmith ", "gcloud ", "gsutil "))
        and not re.search("'|\\.\\.\\.", span)
        for fault in unknown_options(normal(re.sub(r"[|\[\]].*", "", span)))
    ]
    assert not found, "\n".join(found)


def test_comments_name_no_options() -> None:
    """An option beside a command is one that no test has tried: `--set release=2` stood beside a spec without it."""
    found = [each.at(f"make a command of {each.comment!r}") for each in every_command() if " --" in f" {each.comment}"]
    assert not found, "\n".join(found)


def test_benchmarks_know_their_options() -> None:
    for text in (each.text for each in every_command() if "-m benchmarks." in each.text):
        module, *rest = text.partition("-m ")[2].split()
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8")
        assert [word for word in rest if word.startswith("--") and f'"{word}"' not in source] == [], text


@pytest.mark.parametrize(
    "text",
    [
        "goldsmith build SPEC --sett release=2",
        "ls | goldsmith builds lst",
        "gcloud compute images list --family=x",
        "curl $(gcloud auth print-identity-tokens)/x",
        "terraform -chdir=x apply -vars a=b",
        "gsutil -m rm -z x",
    ],
)
def test_an_unknown_option_is_found(text: str) -> None:
    assert unknown_options(text) != []


def test_known_options_are_not_found() -> None:
    assert unknown_options("X=y goldsmith build SPEC --set a=b -o out && gsutil -m rm 'gs://b/**' | wc -l") == []
    assert unknown_options("goldsmith dib -o out/x --checksum vm") == []
