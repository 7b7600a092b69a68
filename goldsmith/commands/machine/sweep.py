"""goldsmith sweep: what killed runs have left, and what has outlived its time."""

from __future__ import annotations

from shared.runtime import opening

from ...home import open_home, resume_all
from ...screen.tables import print_json
from ...screen.text import say


def sweep(*, as_json: bool) -> None:
    """Finish killed builds, delete orphans and images that are due, and say what was done."""
    with open_home() as backend:
        builds, left = resume_all(backend)
        deleted = opening.builds_here(backend).sweep()
    if as_json:
        print_json({"builds": {build.id: build.outcome for build in builds}, "deleted": deleted})
        return
    for build in builds:
        say(f"build {build.id} was left by a killed process; it is {build.outcome} now")
    for name in deleted:
        say(f"deleted {name}")
    if not builds and not deleted and not left:
        say("nothing to do")
