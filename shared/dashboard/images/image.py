"""Images: the list, and one image with its state, its copies, its users, its lineage and its documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...build.build import Distributed, PushedCopy
from ...build.plan import SourceImage
from ...errors import GoldsmithError
from ...json_values import to_document
from ...published.image_check import check_image
from ...published.retirement_report import read_report
from ..web.pages import DashboardArea, Operation, Page, PageDocument, Parameter
from ..web.schemas import TEXT
from ..web.served import Served
from ..web.shapes import schema_of
from .difference import DIFFERENCE
from .downloads import TITLES, DownloadRow, downloads_of, image_document_file
from .found import ShownImage, find_shown
from .inside import ContentsPage, contents_page
from .kin import Lineage, lineage_of
from .listed import ImageRow, image_row, image_rows, newest_images

MOST_IMAGES = 200  # that the list has at once
LONGEST_TEXT = 63  # characters: of a name


@dataclass(frozen=True)
class ImagesPage:
    """Images, newest first."""

    images: tuple[ImageRow, ...]
    more: int  # images that are not shown
    family: str  # that alone is shown; ""
    text: str  # that is looked for in their names


@dataclass(frozen=True)
class SourceRow:
    """The image that an image was built from."""

    project: str
    name: str
    id: str


@dataclass(frozen=True)
class UsageRow:
    """What uses an image and its copies."""

    users: tuple[str, ...]
    more: int
    unread: tuple[str, ...]  # what could not be looked at, and why
    known_at: float  # when it was looked at: Unix seconds


@dataclass(frozen=True)
class RetirementRow:
    """What the last run of retire_images has found about an image."""

    action: str
    why: str
    time: float


@dataclass(frozen=True)
class ImagePage:
    """One image."""

    row: ImageRow | None  # None: it has been deleted
    project: str
    name: str
    id: str
    description: str
    architecture: str
    labels: dict[str, str]
    licenses: tuple[str, ...]
    is_usable: bool
    problems: tuple[str, ...]  # why it may not be used
    notes: tuple[str, ...]
    verified: bool | None
    revoked: str  # when, and why; ""
    state: str  # published, or what is known of one that is not
    content_digest: str
    build_id: str
    source: SourceRow | None
    copy_of: str
    channel: str  # of which it is a copy; ""
    copies: tuple[str, ...]  # in channels
    distributed: tuple[Distributed, ...]
    pushed: tuple[PushedCopy, ...]
    replaced: tuple[str, ...]  # what was deprecated in its favour
    usage: UsageRow | None  # None: it is not known
    retirement: RetirementRow | None
    lineage: Lineage
    downloads: tuple[DownloadRow, ...]


def images_page(served: Served, arguments: Mapping[str, str]) -> PageDocument:
    """Return the newest images, of a family or with a text in their names where that is asked for."""
    family = arguments.get("family", "").strip()[:LONGEST_TEXT]
    text = arguments.get("q", "").strip().lower()[:LONGEST_TEXT]
    every = served.backend.compute.every_image(served.project)
    images, count = newest_images(every, MOST_IMAGES, family or None, text)
    rows = image_rows(images, served.backend.store)
    document: PageDocument = to_document(ImagesPage(rows, count - len(images), family, text))
    return document


def image_page(served: Served, _arguments: Mapping[str, str], project: str, name: str) -> PageDocument:
    """Return one image. NotFound."""
    shown = find_shown(served, project, name)
    image, known, build = shown.image, shown.known, shown.build
    verdict = check_image(project, name, served.backend)
    source = build.plan.source if build is not None and build.plan is not None else None
    page = ImagePage(
        row=None if image is None else image_row(image, known),
        project=project,
        name=name,
        id=shown.id,
        description="" if image is None else image.description,
        architecture="" if image is None else image.architecture,
        labels={} if image is None else dict(image.labels),
        licenses=() if image is None else tuple(image.licenses),
        is_usable=verdict.is_usable,
        problems=verdict.problems,
        notes=verdict.notes,
        verified=verdict.verified,
        revoked="" if verdict.revoked is None else verdict.revoked.text,
        state="not of ours" if known is None else known.state,
        content_digest="" if known is None else known.content_digest,
        build_id="" if build is None else build.id,
        source=None if source is None else SourceRow(source.project, source.name, source.id),
        copy_of="" if verdict.copy is None else verdict.copy.of,
        channel="" if verdict.copy is None else verdict.copy.channel,
        copies=verdict.copies,
        distributed=() if known is None else known.distributed,
        pushed=() if known is None else known.pushed,
        replaced=() if known is None else known.replaced,
        usage=_usage(served, shown),
        retirement=_retirement(served, shown),
        lineage=lineage_of(SourceImage(project, name, shown.id), served),
        downloads=downloads_of(shown, served.backend),
    )
    document: PageDocument = to_document(page)
    return document


def _usage(served: Served, shown: ShownImage) -> UsageRow | None:
    """Return what uses an image: on one machine as it is now, else as it was when the image was revoked."""
    if shown.known is None:
        return None
    if served.machine is not None:
        usage = served.machine.usage(shown.name)
        return UsageRow(usage.users, usage.more, usage.unread, served.backend.clock.now())
    revoked = shown.known.revoked
    if revoked is None or revoked.usage is None:
        return None
    return UsageRow(revoked.usage.users, revoked.usage.more, revoked.usage.unread, revoked.time)


def _retirement(served: Served, shown: ShownImage) -> RetirementRow | None:
    if not served.retirement:
        return None
    try:
        report = read_report(served.retirement, served.backend)
    except GoldsmithError:  # none yet, or one of another release: /retirement says so
        return None
    told = (done.verdict for done in report.told if (done.verdict.project, done.verdict.name) == shown.place)
    verdict = next(told, None)
    return None if verdict is None else RetirementRow(verdict.action, verdict.why, report.time)


_IMAGE = (
    Parameter("project", "the image's project; local on one machine", TEXT, "path"),
    Parameter("name", "the image's name", TEXT, "path"),
)

IMAGES = DashboardArea(
    name="images",
    title="Images",
    pages=(
        Page(
            path="/images",
            summary="Images, newest first",
            query=images_page,
            template="images.html",
            schema=schema_of(ImagesPage),
            parameters=(
                Parameter("family", "the family that alone is shown", TEXT),
                Parameter("q", "a text that is looked for in their names", TEXT),
            ),
        ),
        Page(
            path="/images/<project>/<name>",
            summary="One image",
            query=image_page,
            template="image.html",
            schema=schema_of(ImagePage),
            parameters=_IMAGE,
        ),
        Page(
            path="/images/<project>/<name>/contents",
            summary="What is inside one image",
            query=contents_page,
            template="contents.html",
            schema=schema_of(ContentsPage),
            parameters=(*_IMAGE, Parameter("q", "a text that is looked for in the names of packages", TEXT)),
        ),
        DIFFERENCE,
    ),
    operations=(
        Operation(
            path="/images/<project>/<name>/download/<kind>",
            summary="A document about one image",
            view=image_document_file,
            answers={200: ("application/json", {})},
            parameters=(*_IMAGE, Parameter("kind", "which document", {"enum": list(TITLES)}, "path")),
        ),
    ),
)
