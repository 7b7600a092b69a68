"""The hygiene check of this machine, after its clean-up and before it turns itself off."""

from __future__ import annotations

import json
import os

from ..machine.clean_machine import clean
from ..machine.swap import NoSwap, empty_area
from ..protocol import ALLOWED
from ..system.os_release import system_id
from .hygiene import MEMORY, Finding, check, find_allowance
from .own_files import own_files
from .source_record import read_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def check_machine(root: str, state: str, record: str, places: Sequence[str] = ()) -> list[Finding]:
    """Return what must not be in an image, outside of the provisioner's own folder `state`, which is removed last.

    `record` is the path of the source's record, `places` are the proxies of the build. A process that still runs may
    have written after the clean-up, so where there are findings, the machine is cleaned once more and checked again.
    """
    findings = _look(root, state, record, places)
    if findings:
        clean(root)
        _empty([root + finding.path for finding in findings if finding.what == MEMORY])
        findings = _look(root, state, record, places)
    return findings


def check_values(root: str, state: str, record: str, values: Mapping[str, bytes]) -> list[Finding]:
    """Return the files of the build that hold one of some values, by what the values are called."""
    from .known_values import search_files  # few jobs have secrets

    files = own_files(root, os.path.realpath(state), read_record(record), whole=True)
    return list(search_files(files, values).values())


def _empty(areas: list[str]) -> None:
    """Empty swap that the steps have switched off. An area that cannot be emptied is found again."""
    for area in areas:
        try:
            empty_area(area)
        except (NoSwap, OSError):
            continue


def _look(root: str, state: str, record: str, places: Sequence[str]) -> list[Finding]:
    return check(own_files(root, os.path.realpath(state), read_record(record)), system_id(root), places)


def report_lines(findings: Sequence[Finding], allow: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the findings as lines of a report: those that fail the check, and those that `allow` permits."""
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
