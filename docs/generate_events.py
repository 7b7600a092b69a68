"""Write the tables of docs/events.md, what the topics of a deployment carry, from the classes that read it.

python -m docs.generate_events

The first column of each table is a field or key of the JSON; the words are the comments of the class.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

from provisioner import protocol
from shared.build.events import Event
from shared.intake.exported import EXPORT_REQUEST
from shared.intake.exported import KEYS as EXPORT_KEYS
from shared.intake.request import REQUEST_KEYS
from shared.intake.retry import FROM, RETRY
from shared.published.image_requests import IMAGE_REQUESTS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "events.md"
MARKED = re.compile(r"(<!-- (\w+): python -m docs\.generate_events -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
Rows = Iterator[tuple[str, ...]]


def text() -> str:
    """Return the page with its tables written anew."""
    return MARKED.sub(lambda found: f"{found[1]}{_TABLES[found[2]]()}{found[3]}", PAGE.read_text(encoding="utf-8"))


def _table(head: tuple[str, ...], rows: Rows) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def _requests() -> str:
    rows = [
        ("a build", _code(REQUEST_KEYS)),
        ("a retry", _code((RETRY, FROM))),
        ("the files of a published image", f"`{EXPORT_REQUEST}`, with {_code(EXPORT_KEYS)} in it"),
        ("the end of a pause of triggers", "`resume`"),
        ("a build by triggers, of `expire_builds`", "`trigger` `number`"),
    ]
    return _table(("request for", "keys"), iter(rows))


def _image_requests() -> str:
    return _table(
        ("request", "keys", "of these required"),
        ((f"`{kind}`", _code(form.keys), _code(sorted(form.required))) for kind, form in IMAGE_REQUESTS.items()),
    )


def _reports() -> str:
    return _fields("provisioner/protocol.py", "Report")


def _report_kinds() -> str:
    """Return the kinds of reports with the comments of their constants."""
    said = {name: words for name, (_, words) in _constants("provisioner/protocol.py").items()}
    names = {value: name for name, value in vars(protocol).items() if isinstance(value, str) and name in said}
    rows = ((f"`{kind}`", said.get(names.get(kind, ""), "").strip()) for kind in protocol.REPORT_KINDS)
    return _table(("kind", "meaning"), rows)


def _events() -> str:
    """Return a table of the kinds, each with what it says and its fields beside those that all have."""
    source = _classes("shared/build/events.py")
    rows = (
        (f"`{each.__name__}`", _sentence(source[each.__name__][0]), _code(source[each.__name__][1], leave="kind"))
        for each in get_args(Event)
    )
    return _table(("kind", "says", "fields"), rows)


def _builds() -> str:
    return _fields("shared/build/build.py", "Build")


def _fields(path: str, name: str) -> str:
    fields = _classes(path)[name][1]
    return _table(
        ("field", "type", "meaning"), ((f"`{key}`", f"`{kind}`", words) for key, (kind, words) in fields.items())
    )


def _classes(path: str) -> Mapping[str, tuple[str, Mapping[str, tuple[str, str]]]]:
    """Return the classes of a module: the docstring of each, and type and comment of its fields."""
    written = (ROOT / path).read_text(encoding="utf-8")
    lines = written.splitlines()
    return {
        node.name: (ast.get_docstring(node) or "", dict(_of_class(node, lines)))
        for node in ast.parse(written).body
        if isinstance(node, ast.ClassDef)
    }


def _constants(path: str) -> Mapping[str, tuple[str, str]]:
    """Return type and comment of a module's texts."""
    written = (ROOT / path).read_text(encoding="utf-8")
    lines = written.splitlines()
    return {
        node.targets[0].id: ("str", _comment(node, lines))
        for node in ast.parse(written).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def _comment(node: ast.stmt, lines: list[str]) -> str:
    held = lines[node.lineno - 1 : node.end_lineno]
    return " ".join(line.partition("  # ")[2].strip() for line in held).strip().replace("|", "\\|")


def _of_class(node: ast.ClassDef, lines: list[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            yield field.target.id, (ast.unparse(field.annotation).replace("|", "or"), _comment(field, lines))


def _sentence(docstring: str) -> str:
    return " ".join(docstring.split("\n\n")[0].split())


def _code(names: object, leave: str = "") -> str:
    assert isinstance(names, (list, tuple, dict, Mapping))
    return " ".join(f"`{name}`" for name in names if name != leave)


_TABLES = {
    "requests": _requests,
    "image_requests": _image_requests,
    "reports": _reports,
    "report_kinds": _report_kinds,
    "events": _events,
    "builds": _builds,
}


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
