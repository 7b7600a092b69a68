"""Cloud Build's substitutions: `$NAME` and `${NAME}` in a workflow's texts, `$$` for a dollar sign.

Names that begin with _ are the user's: declared under `substitutions`, with defaults. The others are built in; those
that a build has no value for are empty, as for builds that no trigger began. With options.dynamicSubstitutions the
declared values may refer to others and have bash's expansions.
https://cloud.google.com/build/docs/configuring-builds/substitute-variable-values
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...build.identity import request_digest
from ...names import quoted
from ..document import KeyPath, Problem, with_texts
from .bash_expansions import ExpansionError, expand

BUILT_IN = (
    *("PROJECT_ID", "BUILD_ID", "PROJECT_NUMBER", "LOCATION", "TRIGGER_NAME", "COMMIT_SHA", "REVISION_ID", "SHORT_SHA"),
    *("REPO_NAME", "REPO_FULL_NAME", "BRANCH_NAME", "TAG_NAME", "REF_NAME", "TRIGGER_BUILD_CONFIG_PATH"),
    *("SERVICE_ACCOUNT_EMAIL", "SERVICE_ACCOUNT"),
)
UNKNOWN_SUBSTITUTIONS = ("PROJECT_NUMBER",)  # every build of Cloud Build has one, so that no text can stand for it
BUILD_ID = "BUILD_ID"
KEY = "substitutions"
COUNT_LIMIT, VALUE_LENGTH = 200, 4000  # declared values, and the characters of one: Cloud Build's limits
HINTED_PROBLEMS = 100  # looking for the nearest of many names many times would take minutes
CHAIN_LIMIT = 50  # declared values that refer to each other in a row
GROWTH_LIMIT = 4 << 20  # characters that all references of one workflow may turn into

_USER = re.compile(r"_[A-Z0-9_]{1,99}")
_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>[A-Z_][A-Z0-9_]*)\}|(?P<bare>[A-Z_][A-Z0-9_]*)|(?P<odd>\{))")
_EXPANSION = re.compile(r"\$\{[A-Z_][A-Z0-9_]*[^A-Z0-9_}][^}]{0,60}\}?")


def builtin_substitutions(project: str, asked: str) -> dict[str, str]:
    """Return Cloud Build's own substitutions, as far as a build outside of Cloud Build can have them.

    `asked` is what asked for the workflow's builds. The project's number is not known here, and only triggers set the
    others.
    """
    return {
        "PROJECT_ID": project,
        "BUILD_ID": _uuid(request_digest(asked)),
        "LOCATION": "global",  # the default of `gcloud builds submit`
    }


def _uuid(digest: str) -> str:
    """Return the first digits of a digest in the form of a UUID of version 4."""
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


class Substitutions:
    """The values of one workflow's variables, and what was wrong with them and with references to them."""

    def __init__(self, values: Mapping[str, str], *, loose: bool) -> None:
        self.problems: list[Problem] = []
        self.used: set[str] = set()
        self.empty: list[Problem] = []  # no problems by themselves, but what others may come of
        self._values = values
        self._loose = loose
        self._grown = 0

    def value(self, value: Any, path: KeyPath) -> Any:
        """Return a value of the workflow with its references replaced."""
        return with_texts(value, path, _REFERENCE, self.text)

    def text(self, text: str, path: KeyPath) -> str:
        """Return a text with its references replaced; one that cannot be replaced stays, and is a problem."""

        def replace(match: re.Match[str]) -> str:
            if match["dollar"]:
                return "$"
            name = match["braced"] or match["bare"]
            fault = self._fault(text, match, name)
            if fault:
                self.problems.append(Problem(path, fault))
                return match[0]
            if not name:
                return match[0]
            self.used.add(name)
            value = self._values.get(name, "")
            if not value and name in BUILT_IN:
                self.empty.append(Problem(path, f"{quoted(match[0])} is empty; give it with --set {name}=..."))
            self._grown += len(value)
            return value if self._grown <= GROWTH_LIMIT else ""

        before = self._grown
        result = _REFERENCE.sub(replace, text)
        if before <= GROWTH_LIMIT < self._grown:
            what = f"makes the workflow longer than {GROWTH_LIMIT} characters; put long text into files of the context"
            self.problems.append(Problem(path, what))
        return result

    def _fault(self, text: str, match: re.Match[str], name: str | None) -> str | None:
        if name is None:
            odd = _EXPANSION.match(text, match.start())
            if odd is None:
                return None
            return (
                f"{quoted(odd[0])} is an expansion, which Cloud Build knows in the values of "
                f"{KEY} only; declare one there, with options.dynamicSubstitutions, and refer to it"
            )
        if name in self._values or self._loose:
            return None
        if name in UNKNOWN_SUBSTITUTIONS:
            return f"{quoted(match[0])} is not known here; write its value out, or give it: --set {name}=..."
        if name.startswith("_"):
            users = [other for other in self._values if other.startswith("_")]
            hint = self._nearest(name, users) or f"declare it under {KEY}, or write ${match[0]} to keep it as text"
            return f"{quoted(match[0])} is declared nowhere; {hint}"
        hint = self._nearest(name, BUILT_IN) or f"write _{name} for one of yours, or ${match[0]} to keep it as text"
        return f"{quoted(match[0])} is no built-in substitution; {hint}"

    def _nearest(self, name: str, known: Iterable[str]) -> str:
        """Return `did you mean X?`, or nothing. closed.nearest() does not find these names, which are capitals."""
        if len(self.problems) >= HINTED_PROBLEMS:
            return ""
        close = difflib.get_close_matches(name[:100], list(known), n=1)
        return f"did you mean {close[0]}?" if close else ""


def declared(
    data: Mapping[str, Any], overrides: Mapping[str, str], builtin: Mapping[str, str], *, dynamic: bool
) -> tuple[dict[str, str], list[Problem]]:
    """Return the values of all variables of a workflow: built in, declared, given from outside; and their problems."""
    values = {name: "" for name in BUILT_IN if name not in UNKNOWN_SUBSTITUTIONS} | dict(builtin)
    problems: list[Problem] = []
    written = data.get(KEY, {})
    if not isinstance(written, dict):
        problems.append(Problem((KEY,), "needs names and values; write lines such as _RELEASE: '1'"))
        written = {}
    if len(written) > COUNT_LIMIT:
        problems.append(Problem((KEY,), f"has more than {COUNT_LIMIT} entries, which Cloud Build does not take"))
        written = {}
    for name, value in written.items():
        if not _USER.fullmatch(name) and name not in BUILT_IN:
            text = "is no name for a substitution; write an underscore first, then capital letters, digits and _"
            problems.append(Problem((KEY, name), text))
        elif not isinstance(value, str):
            problems.append(Problem((KEY, name), 'needs text; put it in quotes: "..."'))
            values[name] = ""
        elif len(value) > VALUE_LENGTH:
            problems.append(Problem((KEY, name), f"is longer than {VALUE_LENGTH} characters; write less"))
        elif name not in builtin:
            values[name] = value
    problems += [Problem((KEY,), _refusal(name)) for name in overrides if not _is_settable(name)]
    values |= {name: value for name, value in overrides.items() if _is_settable(name)}
    if dynamic:
        problems += _expand_all(values, [name for name in written if name in values and name not in overrides])
    return values, problems


def _is_settable(name: str) -> bool:
    return bool(_USER.fullmatch(name)) or (name in BUILT_IN and name != BUILD_ID)


def _refusal(name: str) -> str:
    if name == BUILD_ID:
        return f"a value is given for {quoted(name)}, of which every request has its own; leave it out"
    return f"a value is given for {quoted(name)}; substitutions have names such as _RELEASE, or are built in"


def _expand_all(values: dict[str, str], names: list[str]) -> list[Problem]:
    """Expand declared values in place, each after those that it refers to."""
    problems: list[Problem] = []
    done: set[str] = {name for name in values if name not in names}
    doing: list[str] = []

    def look_up(name: str) -> str:
        if name not in values:
            return ""
        if name in doing:
            raise ExpansionError(f"refers to itself by way of {quoted(name)}; write its value out")
        if len(doing) > CHAIN_LIMIT:
            raise ExpansionError(
                f"refers to another that refers to another, more than {CHAIN_LIMIT} times; write it out"
            )
        if name not in done:
            doing.append(name)
            try:
                values[name] = expand(values[name], look_up)
            finally:
                doing.remove(name)
            done.add(name)
        return values[name]

    for name in names:
        try:
            look_up(name)
        except ExpansionError as error:
            problems.append(Problem((KEY, name), str(error)))
            done.add(name)
    return problems
