"""`${name}` in a spec's strings: the parameters that the spec declares, with the values given from outside.

Every string value takes part, keys do not. `$${name}` stays in the result as `${name}`. A value that is one
`${name}` and nothing else may also stand where a number or `true` is wanted; everywhere else it is text. Parameters
cannot refer to each other, so that the order in which they are declared means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ..build.image import description
from ..names import nearest, quoted
from .document import KeyPath, Problem, with_texts
from .fields import FromParameter

KEY = "parameters"
GROWTH_LIMIT = 4 << 20  # characters that all references of one spec may turn into
HINTED_PROBLEMS = 100  # looking for the nearest of thousands of names, thousands of times, would take minutes

_REFERENCE = re.compile(r"\$(\$?)\{([^{}]*)(\}?)")


def substitute(data: dict[str, Any], overrides: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """Return `data` with all references replaced and the effective values under `parameters`, and the problems."""
    declared = data.get(KEY, {})
    if not isinstance(declared, dict):
        return data, []  # the spec's own check says so
    problems = [Problem((KEY,), _undeclared(name, declared)) for name in overrides if name not in declared]
    pass_over = _Substitution({}, problems)
    values = {name: pass_over.text(value, (KEY, name), True) for name, value in declared.items() if _is_text(value)}
    values |= {name: value for name, value in overrides.items() if name in declared}
    substitution = _Substitution(values, problems)
    result = with_texts({key: value for key, value in data.items() if key != KEY}, (), _REFERENCE, substitution.text)
    if KEY in data:
        result[KEY] = {**declared, **values}
    return result, problems


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _undeclared(name: str, declared: Mapping[str, Any]) -> str:
    if not declared:
        return f"a value is given for {quoted(name)}, and the spec declares no parameters; declare it under {KEY}"
    return f"a value is given for {quoted(name)}, which the spec does not declare; {nearest(name, declared)}"


class _Substitution:
    """Replaces references in a tree of values, collecting problems."""

    def __init__(self, values: Mapping[str, str], problems: list[Problem]) -> None:
        self.values = values
        self.problems = problems
        self.grown = 0

    def text(self, text: str, path: KeyPath, declares: bool = False) -> str:
        """Replace the references of one string; one that cannot be replaced stays and is a problem."""

        def replace(match: re.Match[str]) -> str:
            escaped, name, closed = match.groups()
            if path == (description.KEY,) and name in description.FACTS and closed:
                return match[0]  # the plan replaces it
            if escaped:
                return match[0][1:]
            known = description.FACTS if path == (description.KEY,) and "." in name else self.values
            fault = self.fault(match[0], name, bool(closed), declares, known)
            if fault:
                self.problems.append(Problem(path, fault))
                return match[0]
            self.grown += len(self.values[name])
            value = self.values[name] if self.grown <= GROWTH_LIMIT else ""
            return description.without_facts(value) if path == (description.KEY,) else value

        before = self.grown
        result = _REFERENCE.sub(replace, text)
        if before <= GROWTH_LIMIT < self.grown:
            what = f"makes the spec longer than {GROWTH_LIMIT} characters; put long text into files of the context"
            self.problems.append(Problem(path, what))
        whole = _REFERENCE.fullmatch(text)
        return FromParameter(result) if whole and not whole[1] else result

    def fault(self, reference: str, name: str, closed: bool, declares: bool, known: Collection[str]) -> str | None:
        """Return why a reference cannot be replaced; None when it can."""
        if not closed:
            return f"{quoted(reference)} has no closing brace; close it, or write $${{ for text"
        if declares:
            return f"refers to {quoted(reference)}, and parameters cannot refer to each other; write its value out"
        if name in self.values:
            return None
        keep = f"write ${reference} to keep it as text"
        if not known:
            return f"{quoted(reference)} names no parameter; declare it under {KEY}, or {keep}"
        hint = f"; {nearest(name, known)}" if len(self.problems) < HINTED_PROBLEMS else ""
        return f"{quoted(reference)} names no parameter; {keep}{hint}"
