"""List what runs of an image, or would be made of it: disks with their VMs, templates, groups; here, processes.

    image, its copies in channels and in other projects ── each project that may use them ── the image's record

What is told is bounded, and a project that cannot be read is named: what it may have is not known.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..backend import Backend
from ..build.build import ImageDocument, ImageUsage
from ..errors import GoldsmithError
from ..image_users import ImageUsers
from ..ownership import find_image
from .revocation import RevokedImage

LOG = logging.getLogger(__name__)

MOST_USERS = 200  # users
MOST_HELD_USERS = 10_000  # of which the first ones by name are told; others are counted
LONGEST_USER = 300  # characters of one, and of why a project cannot be read
LISTING_SECONDS = 240.0  # after which no further project is begun
_TRIES = 20  # while others change the record


@dataclass(frozen=True)
class Consumers:
    """The projects that may use images, and what can list their users."""

    users: ImageUsers
    projects: Sequence[str]


def usage_of(known: ImageDocument, consumers: Consumers, backend: Backend) -> ImageUsage:
    """List what uses an image of ours, and its copies."""
    wanted: dict[str, set[tuple[str, str]]] = defaultdict(set)  # name and id, by the project that has them
    wanted[known.project].add((known.name, known.id))
    for name in known.copies:
        copy = find_image(known.project, name, backend)
        if copy is not None and copy.copy is not None and copy.copy.id == known.id:
            wanted[known.project].add((name, copy.id))
    for each in known.distributed:
        if each.is_copy:
            project, _, name = each.target.partition("/")
            wanted[project].add((name, each.id))
    end, users, more, unread = backend.clock.now() + LISTING_SECONDS, set[str](), 0, []
    for consumer in consumers.projects:
        if backend.clock.now() >= end:
            unread.append(f"{consumer}: there was no time for it")
            continue
        for owner, images in wanted.items():
            try:
                for user in _using(images, consumers.users, consumer, owner):
                    more += len(users) >= MOST_HELD_USERS and user not in users
                    users |= {user} if len(users) < MOST_HELD_USERS else set()
            except GoldsmithError as error:
                unread.append(f"{consumer}: {error}"[:LONGEST_USER])
                break
    told = sorted(users)
    more += max(0, len(told) - MOST_USERS)
    return ImageUsage(tuple(told[:MOST_USERS]), more, tuple(unread[:MOST_USERS]))


def _using(images: set[tuple[str, str]], users: ImageUsers, consumer: str, owner: str) -> Iterable[str]:
    names, ids = {name for name, _ in images}, {key for _, key in images if key}
    for use in users.uses(consumer, owner):
        if use.image_id in ids if use.image_id else use.image in names:
            yield use.user[:LONGEST_USER]


def with_usage(revoked: RevokedImage, consumers: Consumers, backend: Backend) -> RevokedImage:
    """Return what came of a revocation with what uses the image, which its record gets as well."""
    known = find_image(revoked.project, revoked.name, backend)
    if known is None or known.revoked is None:
        return revoked  # deleted meanwhile
    usage = usage_of(known, consumers, backend)
    for _ in range(_TRIES):
        if known is None or known.revoked is None:
            break
        wanted = replace(known, revoked=replace(known.revoked, usage=usage))
        if wanted == known or backend.store.save_image(wanted, known):
            break
        known = find_image(revoked.project, revoked.name, backend)
    else:
        LOG.warning("image %s is revoked; what uses it is not recorded, since others change its record", revoked.name)
    return replace(revoked, usage=usage)


def usage_lines(usage: ImageUsage) -> tuple[str, ...]:
    """Return what is told of users, a line each."""
    more = (f"{usage.more} more use it",) if usage.more else ()
    unread = tuple(f"not known whether anything uses it in project {each}" for each in usage.unread)
    return (*(f"in use by {each}" for each in usage.users), *more, *unread)
