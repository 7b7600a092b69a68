"""The hygiene check of the machine that we run on, after its clean-up and before it turns itself off."""

from __future__ import annotations

import os

from .clean_machine import clean
from .hygiene import Finding, check
from .os_release import system_id
from .own_files import own_files


def mark_beginning(path: str) -> None:
    """Leave a file that no later boot changes: whatever changed after it did so in this build. OSError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def check_machine(root: str, state: str, mark: str) -> list[Finding]:
    """Give what must not be in an image, but for our own folder `state`, which goes last.

    What was still running may have written a line after the clean-up, so that what is found is cleaned once more.
    """
    findings = _look(root, state, mark)
    if findings:
        clean(root)
        findings = _look(root, state, mark)
    return findings


def _look(root: str, state: str, mark: str) -> list[Finding]:
    return check(own_files(root, os.path.realpath(state)), os.stat(mark).st_ctime, system_id(root))
