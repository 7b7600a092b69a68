"""Find values that are known to be secret in files of the build, whatever form they have there."""

from __future__ import annotations

import errno
import os
import stat

from ..system.redaction import Redactor, held_names, hidden_forms, sought_forms
from .hygiene import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Dict, Mapping

    from .hygiene import File

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)  # ELOOP: a link is in its place
KEEP_OUT = "let the step keep it out of files, or in /run, which is memory; a file that was deleted leaves its blocks"


def search_files(files: Iterable[File], values: Mapping[str, bytes]) -> Dict[str, Finding]:
    """Return the first file that holds each of some values, by what the values are called. No finding quotes one.

    OSError, with its path, for a file that cannot be read: it may hold any of them.
    """
    sought = {name: sought_forms(value) for name, value in values.items()}
    redactor = Redactor(form for value in values.values() for form in hidden_forms(value))
    found: Dict[str, Finding] = {}
    for file in files:
        if not stat.S_ISREG(file.mode) or not file.is_of_build():
            continue
        try:
            names = held_names(file.pieces(), sought)
        except OSError as error:
            if error.errno in GONE:  # deleted meanwhile
                continue
            path = os.fsdecode(redactor.hide(os.fsencode(file.path)))
            raise OSError(error.errno, "cannot be searched for secrets: " + str(error.strerror), path) from None
        for name in names:
            found[name] = holds_value(os.fsdecode(redactor.hide(os.fsencode(file.path))), name)
            del sought[name]
        if not sought:
            break
    return found


def holds_value(place: str, name: str) -> Finding:
    """Return the finding of a place that holds a value."""
    return Finding(place, f"holds the value of {name}", KEEP_OUT)
