"""The hygiene check of the machine that we run on, after its clean-up and before it turns itself off."""

from __future__ import annotations

import json
import os

from .clean_machine import clean
from .hygiene import MEMORY, Finding, check, find_allowance
from .os_release import system_id
from .own_files import own_files
from .protocol import ALLOWED
from .source_record import read_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def check_machine(root: str, state: str, record: str) -> list[Finding]:
    """Return what must not be in an image, but for our own folder `state`, which goes last.

    `record` is the source's record. What was still running may have written a line after the clean-up, so that what is
    found is cleaned once more.
    """
    findings = _look(root, state, record)
    if findings:
        clean(root)
        _empty([root + finding.path for finding in findings if finding.what == MEMORY])
        findings = _look(root, state, record)
    return findings


def _empty(areas: list[str]) -> None:
    """Empty swap that the steps have switched off. What cannot be done is found again."""
    for area in areas:
        from .swap import NoSwap, empty_area

        try:
            empty_area(area)
        except (NoSwap, OSError):
            continue


def _look(root: str, state: str, record: str) -> list[Finding]:
    return check(own_files(root, os.path.realpath(state), read_record(record)), system_id(root))


def tell(findings: Sequence[Finding], allow: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the lines of a report on findings: those that must not pass, and those that `allow` has a pattern for."""
    refused: list[str] = []
    allowed: list[str] = []
    for finding in findings:
        index = find_allowance(finding.path, allow)
        if index is None:
            refused.append(str(finding))
        else:
            allowed.append(ALLOWED + json.dumps([index, finding.path, finding.what]))
    return refused, allowed


def whole_lines(lines: Sequence[str], limit: int) -> str:
    """Join as many lines as fit into `limit` characters."""
    kept: list[str] = []
    for line in lines:
        limit -= len(line) + 1
        if limit < 0:
            break
        kept.append(line)
    return "\n".join(kept)
