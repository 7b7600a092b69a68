"""A home within this machine's home, for a build whose image is not kept: it has its own state, catalogue and cache.

HOME/cache/trials/.scratch-*/home    images/SOURCE, linked; cache/, with what is kept of any image by its content
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..build.plan import SourceImage
from ..host.scratch import faults, scratch_folder
from ..machines.start_sandbox import remove_folder
from .one_machine import LocalBackend, open_one_machine

_SHARED = ("roots", "packages", "boot", "accelerator.json")  # of the cache: kept by content, and no result of any build


@contextmanager
def open_trial(backend: LocalBackend, source: SourceImage) -> Iterator[LocalBackend]:
    """Open a backend that has one image of another one, and nothing of what was built. All of it goes with the block.

    What a killed process has left goes with the next one. EnvironmentFault, NoSpace.
    """
    trials = backend.home / "cache" / "trials"
    with faults(trials):
        trials.mkdir(mode=0o700, parents=True, exist_ok=True)
    with scratch_folder(trials, remove=_remove) as scratch:
        home = scratch.path / "home"
        with faults(home):
            home.mkdir(mode=0o700)
            _link_image(backend.catalogue.disk(source.name).parent, home / "images" / source.name)
            (home / "cache").mkdir()
            for name in _SHARED:
                (home / "cache" / name).symlink_to(backend.home / "cache" / name)
            (backend.home / "cache" / "roots").mkdir(mode=0o700, exist_ok=True)
            (backend.home / "cache" / "packages").mkdir(mode=0o700, exist_ok=True)
            (backend.home / "cache" / "boot").mkdir(exist_ok=True)
        with open_one_machine(home, backend.progress) as trial:
            yield trial


def _link_image(entry: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for file in entry.iterdir():
        (target / file.name).hardlink_to(file)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except PermissionError:  # a killed sandbox of an ordinary user has left files of that user's other ids
        remove_folder(folder)
