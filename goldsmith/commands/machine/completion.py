"""What a shell offers at Tab: names of this machine's builds, images and families. Nothing is opened or changed."""

from __future__ import annotations

import time

from shared.host.known_names import KnownKind, known_builds, known_family, known_names

from ...home_folder import home
from ...screen.times import ago


def offered_names(kind: KnownKind, incomplete: str) -> list[tuple[str, str]]:
    """Return the names that begin like what was typed, each with what it is."""
    folder = home()
    if kind == "build":
        now = time.time()
        described = [
            (name, f"{what.replace('_', ' ')}, {ago(made, now)}")
            for name, what, made in known_builds(folder, incomplete)
        ]
        return described or [(name, "") for name in known_names(folder, kind, incomplete)]
    names = known_names(folder, kind, incomplete)
    return [(name, known_family(folder, name) if kind == "image" else "") for name in names]


def offered_formats(incomplete: str) -> list[str]:
    """Return formats of an image's files, for the last one of several that are separated by commas."""
    from shared.build.export_formats import EXPORT_FORMATS

    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [before + comma + name for name in EXPORT_FORMATS if name.startswith(last) and name not in taken]
