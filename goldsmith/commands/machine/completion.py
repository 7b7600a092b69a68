"""What a shell offers at Tab: names of this machine's builds, images and families. Nothing is opened or changed."""

from __future__ import annotations

from shared.host.known_names import KnownKind, known_names

from ...home_folder import home


def offered_names(kind: KnownKind, incomplete: str) -> list[str]:
    """Return the names that begin like what was typed, without those that a terminal would not show as they are."""
    return [name for name in known_names(home(), kind, incomplete) if name.isprintable() and " " not in name]


def offered_formats(incomplete: str) -> list[str]:
    """Return formats of an image's files, for the last one of several that are separated by commas."""
    from shared.build.export_formats import EXPORT_FORMATS

    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [before + comma + name for name in EXPORT_FORMATS if name.startswith(last) and name not in taken]
