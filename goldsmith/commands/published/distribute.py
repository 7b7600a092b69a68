"""goldsmith images distribute: ask a deployment to give an image to others, and wait for what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from shared.build.build import Distributed, Outcome
from shared.build.export_formats import chosen_formats
from shared.errors import InputError, NotFound
from shared.intake.exported import EXPORT_REQUEST, wanted_export
from shared.published.distribution_request import ask_to_distribute
from shared.quantities import parse_duration

from ...exit_status import NOT_SUCCEEDED
from ...places import Place, open_client_of
from ...screen.tables import print_json, print_table
from ...screen.text import complain
from ..images import written_image

if TYPE_CHECKING:
    from shared.runtime.opening import CloudClient

POLL = 1.0  # seconds

Look = Callable[[], Iterable[Distributed]]


@dataclass(frozen=True)
class WantedTargets:
    """What a person has written of those that are to get an image."""

    share: Sequence[str] = ()
    copies: Sequence[str] = ()
    export: str | None = None  # gs://bucket/object.tar.gz or gs://bucket/folder/
    formats: Sequence[str] = ()


def give_to_others(name: str, place: Place, wanted: WantedTargets, wait: str, *, as_json: bool) -> int:
    """Publish the requests and print what has come of each target; return the exit status. InputError."""
    assert place.project is not None
    try:
        seconds = parse_duration(wait)
    except ValueError as error:
        raise InputError(f"--wait: {error}") from error
    until = time.monotonic() + seconds
    project, name = written_image(name, place.project)
    targets, look = _asked(project, name, wanted, open_client_of(place.project, place.bucket))
    settled = {each.target: each for each in look()}
    while len(settled) < len(targets) and time.monotonic() < until:
        time.sleep(POLL)
        settled = {each.target: each for each in look()}
    waiting = sorted({*targets} - {*settled})
    if as_json:
        done = [asdict(each) for each in settled.values()]
        print_json({"project": project, "name": name, "targets": done, "waiting": waiting})
    else:
        rows = [(each.target, "refused" if each.refused else "done", each.refused) for each in settled.values()]
        print_table(("TARGET", "", "WHY"), [*rows, *((target, "waits", "") for target in waiting)])
    if waiting and seconds:
        complain(
            f"nothing is known yet of {', '.join(waiting)}; the deployment goes on, and the log of deprecate_images "
            "says what comes of it, or of start_build for files"
        )
    return NOT_SUCCEEDED if (waiting and seconds) or any(each.refused for each in settled.values()) else 0


def _asked(project: str, name: str, wanted: WantedTargets, client: CloudClient) -> tuple[tuple[str, ...], Look]:
    """Publish the requests; return the targets, and what looks up those that are done with. InputError."""
    if wanted.formats and wanted.export is None:
        raise InputError("--format is of files in a bucket; write --export gs://BUCKET/OBJECT.tar.gz, too")
    formats = [each.name for each in chosen_formats(wanted.formats)]
    targets: tuple[str, ...] = ()
    looks: list[Look] = []
    if wanted.share or wanted.copies or wanted.export is None:
        copies = [_copy(text) for text in wanted.copies]
        asked = ask_to_distribute(project, name, wanted.share, copies, client.store, client.bus)
        targets += asked.targets
        looks.append(lambda: asked.settled(client.store.image(project, name)))
    if wanted.export is not None:
        request = {"image": f"{project}/{name}", "to": wanted.export, **({"formats": formats} if formats else {})}
        message = client.request({EXPORT_REQUEST: request})
        build = wanted_export(name, message, client.bucket_name).id
        targets += (wanted.export,)
        looks.append(lambda: _written(build, wanted.export or "", client))
    return targets, lambda: [each for look in looks for each in look()]


def _written(build_id: str, target: str, client: CloudClient) -> Iterable[Distributed]:
    """Yield what has come of the build that writes files, once it has ended."""
    try:
        build = client.store.load(build_id).build
    except NotFound:
        return
    if build.ended:
        failed = f"build {build.id} {build.outcome}: {build.reason}"
        yield Distributed(target, build.updated, refused="" if build.outcome is Outcome.SUCCEEDED else failed)


def _copy(text: str) -> dict[str, str]:
    """Read the copy of an option: the id of a project, or keys with their values. InputError."""
    if "=" not in text:
        return {"project": text}
    asked: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key or key in asked:
            raise InputError(f"--copy {text}: write PROJECT, or KEY=VALUE,... with each key once")
        asked[key] = value
    return asked
