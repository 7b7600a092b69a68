"""goldsmith images revoke: an image is taken back, and what was built from it is built again where that is wanted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared.build.identity import build_id
from shared.errors import GoldsmithError, NotFound
from shared.runtime import opening

from ...exit_status import INTERRUPTED, NOT_SUCCEEDED
from ...home import open_home, resume_all
from ...screen.tables import print_json
from ...screen.text import complain, say
from ...screen.view import PlainView
from ..build import BuildFlags, build_all, status
from ..images import local_name
from ..specs import here, read_builds, spec_place

if TYPE_CHECKING:
    from shared.build.build import Build
    from shared.runtime.opening import LocalBackend, Rebuild, RevokedImage
    from shared.spec.read import SpecBuild, SpecFile

MOST_TRIES = 50  # of one spec, by as many commands


def revoke(name: str, reason: str, *, alone: bool, cascade: bool, as_json: bool) -> int:
    """Take an image back, and print what its family leads to now; return the exit status.

    With `cascade`, the specs of all that was built from it are built again, and progress goes to standard error.
    """
    with open_home() as backend:
        images = opening.images_here(backend)
        done = images.revoke(local_name(name), reason, alone=alone)
        rebuilds = images.rebuilds(done) if cascade else ()
        if rebuilds:
            resume_all(backend)
    ended = 0
    if not as_json:
        _print(done)
    if rebuilds:
        rebuilds, ended = _build_again(done, rebuilds)
        with open_home() as backend:
            done = opening.images_here(backend).with_rebuilds(done, rebuilds)
    if as_json:
        print_json(asdict(done))
    else:
        for spec in done.rebuilt:
            say(f"built again: {spec}")
        for left in done.not_rebuilt:
            say(f"not built again: {left}")
    return ended or (NOT_SUCCEEDED if done.not_rebuilt else 0)


def _build_again(revoked: RevokedImage, rebuilds: Sequence[Rebuild]) -> tuple[tuple[Rebuild, ...], int]:
    """Build each spec once its source leads to a good image; return what is told of it, and the first exit status.

    One whose source is built here as well comes after that.
    """
    waiting = {each.key: each for each in rebuilds if each.place is not None}
    faults: dict[str, str] = {}
    failures: list[int] = []
    while waiting:
        left: dict[str, str] = {}
        for key, each in waiting.items():
            try:
                ended = _build_one(revoked, each)
            except GoldsmithError as error:
                left[key] = str(error)
                continue
            if ended == INTERRUPTED:
                return _told(rebuilds, {**faults, **dict.fromkeys(waiting, "interrupted; revoke it again")}), ended
            if ended:
                faults[key] = f"the build of {each.place and each.place.uri} did not succeed"
                failures.append(ended)
        if len(left) == len(waiting):
            faults |= left
            break
        waiting = {key: waiting[key] for key in left}
    return _told(rebuilds, faults), next(iter(failures), 0)


def _told(rebuilds: Sequence[Rebuild], faults: dict[str, str]) -> tuple[Rebuild, ...]:
    return tuple(
        replace(each, place=None, why=faults[each.key]) if each.place is not None and each.key in faults else each
        for each in rebuilds
    )


def _build_one(revoked: RevokedImage, rebuild: Rebuild) -> int:
    """Build one spec, or return how the build for this revocation has ended. GoldsmithError where it cannot be yet."""
    place = rebuild.place
    assert place is not None
    path = Path(place.uri)
    with open_home() as backend:
        asked, known = _next_request(revoked, rebuild, backend)
    if known is not None:
        return status(known)

    def read() -> tuple[SpecFile, tuple[SpecBuild, ...]]:
        file = read_builds(path, place.parameters, asked, None)
        return file, here(file.builds, path)

    file, builds = read()
    with open_home() as backend:
        source = opening.images_here(backend).source_of(builds[0].spec, file.folder)
    if source.id in rebuild.bad:
        raise NotFound(f"{path}: its source still leads to {source.name}; build another image of that family first")
    complain(f"{path}: its image was built from {revoked.name}")
    flags = BuildFlags(
        None,
        None,
        None,
        anew=True,
        place=spec_place(path, place.parameters, file),
        show=lambda _json: PlainView(sys.stderr),
    )
    return build_all(read, asked, flags, (file, builds))


def _next_request(revoked: RevokedImage, rebuild: Rebuild, backend: LocalBackend) -> tuple[str, Build | None]:
    """Return what asks for a build that has not ended, or the build that has ended well. NotFound after MOST_TRIES."""
    for number in range(1, MOST_TRIES + 1):
        asked = f"goldsmith build {revoked.name} revoked {revoked.time:.0f} {rebuild.key} {number}"
        try:
            known = backend.store.load(build_id(rebuild.name, asked)).build
        except NotFound:
            return asked, None
        if not known.ended:
            return asked, None
        if status(known) == 0:
            return asked, known
    raise NotFound(f"{MOST_TRIES} builds for this revocation did not succeed; correct the spec, and build it")


def _print(done: RevokedImage) -> None:
    say(f"image {done.project}/{done.name} is revoked: {done.reason}")
    if done.family is not None and done.leads_to is None:
        say(f"family {done.family} leads to no image any more; build one")
    elif done.family is not None:
        again = ", which is active again" if done.restored else ""
        foreign = "" if done.leads_to_good else ", which Goldsmith has not published; look whether it may be used"
        say(f"family {done.family} leads to {done.leads_to}{again}{foreign}")
    for copy in done.copies:
        leads = f"leads to {copy.leads_to}" if copy.leads_to else "leads to no image any more; promote one"
        say(f"its copy {copy.name} is revoked; family {copy.family} {leads}")
    if done.copy_of:
        say(f"it is a copy of {done.copy_of}, which is not revoked by this")
    if done.descendants:
        say(f"built from it, and not revoked by this: {', '.join(done.descendants)}")
    for line in () if done.usage is None else opening.usage_lines(done.usage):
        say(line)
    if done.builds:
        say(f"under way from it, and not cancelled by this: {', '.join(done.builds)}")
