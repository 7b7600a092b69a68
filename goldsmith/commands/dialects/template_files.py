"""The files that a template of Packer reads or looks for, within bounds; those outside of its folders are told."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from shared.spec.packer.language.syntax import TEMPLATE_LIMIT

ENTRIES_LIMIT = 20_000  # that a pattern is compared with
DEPTH_LIMIT = 12  # of folders below that of a pattern


@dataclass
class TemplateFolders:
    """Where Packer runs, and where its template is."""

    run: Path
    template: Path
    outside: list[str] = field(default_factory=list)  # files that are in neither, and have been read

    def read(self, name: str) -> str:
        """Return the text of a file. ValueError."""
        path = self.run / name
        text = template_file_text(path)
        real = path.resolve()
        homes = (self.run.resolve(), self.template.resolve())
        if not any(real.is_relative_to(home) for home in homes) and str(real) not in self.outside:
            self.outside.append(str(real))
        return text

    def files(self, folder: str, pattern: str) -> list[str]:
        """Return the files of a folder that a pattern is for, relative to it. ValueError."""
        home, wanted = self.run / folder, PurePath(pattern).parts
        if not home.is_dir() or ".." in wanted or wanted.count("**") > 2 or PurePath(pattern).is_absolute():
            raise ValueError(
                f"there is no folder {folder}" if not home.is_dir() else "the pattern is not of its folder"
            )
        depth = DEPTH_LIMIT if "**" in wanted else len(wanted)
        found, entries = [], 0
        for place, folders, names in os.walk(home):
            here = PurePath(os.path.relpath(place, home)).parts
            entries += len(folders) + len(names)
            if entries > ENTRIES_LIMIT:
                raise ValueError(f"{folder} holds more than {ENTRIES_LIMIT} files")
            if len(here) + 1 >= depth:
                folders.clear()
            found += ["/".join([*here, name]) for name in names if _matches([*here, name], wanted)]
        return sorted(found)


def template_file_text(path: Path) -> str:
    """Return the text of a file. ValueError."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            data = file.read(TEMPLATE_LIMIT + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > TEMPLATE_LIMIT:
        raise ValueError(f"{path} is longer than {TEMPLATE_LIMIT >> 10} KiB")
    return data.decode()


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_matches(parts[index:], wanted[1:]) for index in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])
