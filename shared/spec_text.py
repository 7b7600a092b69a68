"""From text to a Spec: all problems at once, each with its place, in the order of the text.

Reading has four stages, and each goes on where the one before found faults, as far as that makes sense: text to
values (spec_document), parameters (spec_parameters), models (spec), and what the caller checks beside that, such as
the files that the spec names (spec_file).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from .closed import problems_of
from .errors import SpecError
from .names import quoted
from .spec import Spec
from .spec_document import Document, KeyPath, Problem, read_document
from .spec_parameters import substitute

Check = Callable[[Mapping[str, Any]], list[Problem]]
"""Looks at a spec's values, parameters replaced; they may be wrong in any way, since all problems are told at once."""

NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})

TOLD_PROBLEMS = 100

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read_spec(
    text: str, filename: str, overrides: Mapping[str, str] = NO_OVERRIDES, check: Check = lambda data: []
) -> Spec:
    """Read a spec from its text; `overrides` are values for its parameters. Raises SpecError."""
    document = read_document(text)
    if document.data is None:
        raise SpecError(_lines(filename, document, document.problems))
    data, parameter_problems = substitute(document.data, overrides)
    problems = document.problems + parameter_problems
    spec = None
    try:
        spec = Spec.model_validate(data)
    except ValidationError as error:
        problems += _news((Problem(loc, what) for loc, what in problems_of(error)), problems)
    problems += _news(check(data), problems)
    if spec is None or problems:
        raise SpecError(_lines(filename, document, problems))
    return spec


def _news(found: Iterable[Problem], known: list[Problem]) -> list[Problem]:
    """Drop what only follows from a problem that is known: one at the same key, or at a key below it."""
    paths = {problem.path[:length] for problem in known for length in range(1, len(problem.path) + 1)}
    return [problem for problem in found if problem.path not in paths]


def _lines(filename: str, document: Document, problems: Iterable[Problem]) -> list[str]:
    """Write problems in the order of the file, the first TOLD_PROBLEMS of them."""
    placed = [(problem.position or document.position(problem.path), problem) for problem in problems]
    placed.sort(key=lambda pair: pair[0])
    if len(placed) > TOLD_PROBLEMS:
        more = Problem((), f"has {len(placed) - TOLD_PROBLEMS} more problems; mend those above first")
        placed[TOLD_PROBLEMS:] = [(placed[TOLD_PROBLEMS][0], more)]
    return [
        f"{filename}:{place.line}:{place.column}: {key_path(problem.path)}: {problem.text}" for place, problem in placed
    ]


def key_path(path: KeyPath) -> str:
    """Write a path as people do: `steps[0].inputs.script`; the root is `spec`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _PLAIN_KEY.fullmatch(part) else quoted(part))
    return text or "spec"
