"""goldsmith images: the catalogue of this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from shared.build.build import Build, ExportedImage, ImageUsage
from shared.build.export_formats import CHECKSUM, ExportFormat, checksum_line, chosen_formats
from shared.build.plan import ImagePlan
from shared.build.resources import archive_stem, manifest_of, results_stem, sbom_names
from shared.engine.manifest import manifest, with_earlier_files
from shared.engine.script_table import scripts_of
from shared.errors import AlreadyExists, GoldsmithError, InputError, NotFound, StoreError
from shared.names import LOCAL, check_name, project_id, quoted
from shared.ownership import find_image, revocation_of
from shared.ports import Image
from shared.runtime import opening

from ..exit_status import NOT_SUCCEEDED
from ..home import open_home
from ..places import Place, builds_at, default_bucket, open_client_of
from ..screen.progress import shown
from ..screen.tables import megabytes, print_json, print_table, relative, when
from ..screen.text import complain, say

if TYPE_CHECKING:
    from shared.provenance.check import Policy
    from shared.runtime.opening import ImageVerdict, LocalBackend, PushedImage


def list_images(family: str | None, *, as_json: bool) -> None:
    """Print images, newest first; damaged entries go to standard error."""
    with open_home() as backend:
        found = backend.catalogue.list(family=family, damaged=complain)
    if as_json:
        print_json([asdict(image) for image in found])
        return
    heads: tuple[str, ...] = ("IMAGE", "FAMILY", "ARCH", "DISK", "DATA", "CREATED", "DEPRECATED")
    rows = [_row(image) for image in found]
    if any(image.source_image for image in found):
        names = {image.id: image.name for image in found}
        heads = (*heads, "COPY OF")
        rows = [(*row, _original(image, names)) for row, image in zip(rows, found, strict=True)]
    print_table(heads, rows)


def _row(image: Image) -> tuple[str, ...]:
    size, data = f"{image.disk_size_gb} GB", megabytes(image.archive_bytes)
    family, mark = image.family or "", image.deprecated or ""
    return (image.name, family, image.architecture, size, data, relative(image.created), mark)


def _original(image: Image, names: Mapping[str, str]) -> str:
    return "" if image.source_image is None else names.get(image.source_image, f"id {image.source_image}")


def show_image(name: str, *, as_json: bool) -> None:
    """Print one image and what is inside its disk."""
    with open_home() as backend:
        image = _find_begun(backend, name)
        name = image.name
        contents = opening.images_here(backend).describe(name)
        known = find_image(LOCAL, name, backend)
        revoked = revocation_of(image, backend)
        usage = opening.images_here(backend).usage(name)
    if known is not None and known.id != image.id:
        known = None  # of another image of that name
    copy, copies = (None, ()) if known is None else (known.copy, known.copies)
    pushed = () if known is None else known.pushed
    if as_json:
        told = {
            "revoked": None if revoked is None else asdict(revoked),
            "pushed": [asdict(each) for each in pushed],
            "copies": copies,
            "copy": None if copy is None else asdict(copy),
            "usage": asdict(usage),
        }
        print_json({"image": asdict(image), "contents": asdict(contents), **told})
        return
    lines = [
        ("image", f"{image.project}/{image.name}, id {image.id}"),
        ("family", image.family or "none"),
        ("created", f"{when(image.created)}, {relative(image.created)}"),
        ("disk", f"{image.disk_size_gb} GB, {megabytes(image.archive_bytes)} of data, {image.architecture}"),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(image.labels.items())) or "none"),
    ]
    if image.deprecated:
        lines.append(("deprecated", f"{image.deprecated}, replaced by {image.replacement or 'none'}"))
    if revoked is not None:
        lines.append(("revoked", revoked.text))
    if copy is not None:
        lines.append(("copy of", f"{copy.of}, in the channel {copy.channel}"))
    if copies:
        lines.append(("promoted to", ", ".join(copies)))
    lines += [("pushed", f"{each.project}/{each.name}, id {each.id}, at {when(each.time)}") for each in pushed]
    lines += [("in use by", user) for user in usage.users]
    for key, value in lines:
        say(f"{key + ':':<12} {value}")
    say(str(contents))


def show_statement(name: str, output: Path | None, key: Path | None, builder: str, source: str) -> int:
    """Print the statement about an image if it holds, or write it into a file; give the exit status."""
    if output is not None and output.exists():
        raise InputError(f"{output} exists already; remove it, or give another name")
    from shared.provenance.check import Policy

    with open_home() as backend:
        provenance = opening.provenance_here(backend)
        faults = provenance.faults(name, () if key is None else (key,), Policy(builder, source))
        for fault in faults:
            complain(f"image {name}: {fault}")
        if faults:
            return NOT_SUCCEEDED
        envelope = provenance.envelope(name)
        if output is None:
            print_json(provenance.stated(envelope, name))
            return 0
        backend.bucket.write(str(output.absolute()), envelope)
    say(f"statement {output}")
    return 0


def show_lineage(name: str, *, as_json: bool) -> None:
    """Print an image and the images that it was made from, one after the other."""
    with open_home() as backend:
        found = list(opening.provenance_here(backend).lineage(name))
    if as_json:
        print_json([asdict(ancestor) for ancestor in found])
        return
    rows = [
        (
            f"{each.project}/{each.name}",
            each.id,
            "yes" if each.is_there else "no",
            each.build or "none of this machine's",
            "yes" if each.has_statement else "no",
        )
        for each in found
    ]
    print_table(("IMAGE", "ID", "THERE", "BUILD", "STATEMENT"), rows)


def show_signing_key() -> None:
    """Print the public key of this machine, which is made where there is none."""
    with open_home() as backend:
        say(opening.provenance_here(backend).public_key().decode().rstrip())


def import_file(file: Path, name: str | None, family: str | None, architecture: str | None) -> None:
    """Take a file into the catalogue."""
    with shown() as progress, open_home(progress) as backend:
        images = opening.images_here(backend)
        try:
            image = images.import_image(file, name, family, architecture)
        except AlreadyExists as error:  # here it is the person's choice of a name
            raise InputError(str(error)) from error
        contents = images.describe(image.name)
    say(f"image {image.project}/{image.name}\n{contents}")


def export(name: str, output: Path, compression: str, formats: Sequence[str]) -> None:
    """Write an image into a folder, in the formats given or as Compute Engine's archive."""
    if compression not in ("fast", "best"):
        raise InputError(f"--compression {compression}: choose fast or best")
    chosen = chosen_formats(format_names(formats))
    folder = output.absolute()
    with shown() as progress, open_home(progress) as backend:
        name = _find_begun(backend, name).name
        if chosen:
            for path in export_files(backend, name, folder / name, chosen, compression):
                say(f"file {path}")
            return
        target = folder / f"{name}.tar.gz"
        _refuse_existing(target)
        export_existing(backend, name, str(target), compression)
    say(f"archive {target}")


def format_names(values: Sequence[str]) -> tuple[str, ...]:
    """Return the formats of an option's values, in each of which several may stand. InputError."""
    return tuple(known.name for known in chosen_formats(name for value in values for name in value.split(",")))


def export_again(backend: LocalBackend, name: str, wanted: ImagePlan) -> None:
    """Write the files of an image that is there already, as a plan wants them, unless they are there too."""
    if wanted.export_to is None or not wanted.formats:
        export_existing(backend, name, wanted.export_to, wanted.compression)
        return
    stem = Path(archive_stem(wanted.export_to))
    missing = [known for known in chosen_formats(wanted.formats) if not Path(f"{stem}{known.ending}").exists()]
    if missing:
        export_files(backend, name, stem, missing, wanted.compression)


def export_files(
    backend: LocalBackend, name: str, stem: Path, formats: Sequence[ExportFormat], compression: str
) -> list[Path]:
    """Write an image in several formats beside each other, each with its checksum; return the paths of the files.

    They get their names when all are whole and proved. The manifest goes with them, and tells of those that it told of
    before, where the build that made the image is known.
    """
    targets = {known: stem.with_name(stem.name + known.ending) for known in formats}
    for path in targets.values():
        _refuse_existing(path)
        _refuse_existing(path.with_name(path.name + CHECKSUM))
    images = opening.images_here(backend)
    with images.staging(stem.parent) as folder:
        staged = {known.name: str(folder / path.name) for known, path in targets.items()}
        done = backend.compute.export_files(LOCAL, name, staged, compression, backend.progress)
        for file, path in zip(done.files, targets.values(), strict=True):
            checksum = folder / (path.name + CHECKSUM)
            checksum.write_bytes(checksum_line(file.sha256, path.name))
            backend.bucket.publish(str(folder / path.name), str(path))
            backend.bucket.publish(str(checksum), f"{path}{CHECKSUM}")
    _tell(backend, name, stem, done)
    return list(targets.values())


def _tell(backend: LocalBackend, name: str, stem: Path, done: ExportedImage) -> None:
    """Write the manifest of files that were exported, where the build that made the image is known."""
    made = opening.images_here(backend).maker_of(name)
    if made is None or made.plan is None or made.image is None:
        return
    path = Path(f"{stem}.json")
    image = replace(made.image, archive=done.archive, files=done.files)
    packages = backend.compute.packages(LOCAL, name)
    sbom = _copy_sbom(backend, made, f"{stem}.tar.gz")
    told = manifest(replace(made, image=image), made.plan, packages, sbom, stem.name, scripts_of(made, backend.store))
    backend.bucket.write(str(path), with_earlier_files(told, path.read_bytes() if path.exists() else b""))


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise InputError(f"{path} exists already; remove it, or choose another folder")


def export_existing(backend: LocalBackend, name: str, target: str | None, compression: str) -> None:
    """Write the archive of an image that is there already, unless the file is there too.

    The manifest goes with it where the build that made the image is known.
    """
    if target is None or Path(target).exists():
        return
    images = opening.images_here(backend)
    with images.staging(Path(target).parent) as folder:
        staged = str(folder / Path(target).name)
        archive = backend.compute.export_image(LOCAL, name, staged, compression, backend.progress)
        backend.bucket.publish(staged, target)
    made = images.maker_of(name)
    if made is None or made.plan is None or made.image is None:
        return
    exported = replace(made, image=replace(made.image, archive=archive))
    packages = backend.compute.packages(LOCAL, name)
    sbom = _copy_sbom(backend, made, target)
    told = manifest(exported, made.plan, packages, sbom, scripts=scripts_of(made, backend.store))
    backend.bucket.write(manifest_of(target), told)


def _copy_sbom(backend: LocalBackend, made: Build, target: str) -> list[str]:
    """Put the bill of materials that publication wrote beside an archive; give the paths of what there is."""
    copies = []
    stored = sbom_names(results_stem(made, opening.builds_here(backend).logs_of(made.id)))
    for source, copy in zip(stored, sbom_names(archive_stem(target)), strict=True):
        with suppress(NotFound):  # of an image from before there were any, or whose logs have been deleted
            backend.bucket.write(copy, backend.bucket.read(source))
            copies.append(copy)
    return copies


def bootstrap(system: str, release: str | None, packages: list[str], mirror: str | None, architecture: str) -> None:
    """Make an image of a distribution's packages; the catalogue has it afterwards, newest of its family."""
    with shown() as progress, open_home(progress) as backend:
        image = opening.images_here(backend).bootstrap(system, release, packages, mirror, architecture)
    say(f"image {image.project}/{image.name}, newest of family {image.family}")


def delete(names: list[str]) -> None:
    """Delete images; all are looked up before the first is deleted."""
    with open_home() as backend:
        for name in names:
            _find(backend, name)
        for name in names:
            backend.catalogue.delete(name)
            say(f"deleted image {name}")


def print_verdict(
    name: str, place: Place, *, verified: bool, stated: tuple[str, str] | None, keys: Sequence[str], as_json: bool
) -> int:
    """Print whether an image may be used, and why not; return the exit status.

    With `stated`, the builder and the source that are wanted, its signed statement has to hold, too: by `keys`, or by
    those of the place.
    """
    from shared.provenance.check import Policy

    wanted, usage = None if stated is None else Policy(*stated), None
    if place.project is not None:
        verdict = _cloud_verdict(name, place.project, place.bucket, verified=verified, wanted=wanted, keys=keys)
        usage = None if verdict.is_usable else _usage_there(verdict, place.project, place.bucket)
    else:
        with open_home() as backend:
            verdict = opening.images_here(backend).check(local_name(name), must_be_verified=verified)
            if wanted is not None and verdict.exists:
                files = [Path(key) for key in keys]
                check = partial(opening.provenance_here(backend).faults, verdict.name, files, wanted)
                verdict = replace(verdict, problems=(*verdict.problems, *_faults_stated(check)))
            usage = None if verdict.is_usable else opening.images_here(backend).usage(verdict.name)
    if as_json:
        print_json({"usable": verdict.is_usable, **asdict(verdict), "usage": usage and asdict(usage)})
    elif verdict.is_usable:
        known = {True: "verified", False: "not verified", None: "and whether it was verified is not known any more"}
        say(f"image {verdict.project}/{verdict.name} may be used: published by Goldsmith, {known[verdict.verified]}")
    else:
        say(f"image {verdict.project}/{verdict.name} must not be used: {'; '.join(verdict.problems)}")
    for note in () if as_json else (*verdict.notes, *(opening.usage_lines(usage) if usage is not None else ())):
        say(f"note: {note}")
    return 0 if verdict.is_usable else NOT_SUCCEEDED


def _cloud_verdict(
    name: str, project: str, bucket: str | None, *, verified: bool, wanted: Policy | None, keys: Sequence[str]
) -> ImageVerdict:
    """Return what is known of PROJECT/NAME, or of NAME in the deployment's own project."""
    images = opening.provenance_at(project, bucket or default_bucket(project))
    verdict = images.check(*written_image(name, project), must_be_verified=verified)
    if wanted is None or not verdict.exists:
        return verdict
    faults = _faults_stated(lambda: images.faults(verdict.project, verdict.name, keys, wanted))
    return replace(verdict, problems=(*verdict.problems, *faults))


def _usage_there(verdict: ImageVerdict, project: str, bucket: str | None) -> ImageUsage:
    """List what uses an image of a deployment, in the projects of the last report of retire_images, or in its own."""
    client = open_client_of(project, bucket)
    consumers: Sequence[str] = (project,)
    with suppress(GoldsmithError):
        consumers = client.retirement().consumers
    return client.usage(verdict.project, verdict.name, consumers)


def _faults_stated(check: Callable[[], list[str]]) -> list[str]:
    """Return why an image is not what is stated of it; that nothing is, or cannot be read, is a reason as well."""
    try:
        return check()
    except (InputError, StoreError) as error:
        return [str(error)]


def local_name(name: str) -> str:
    """Return the name of an image of this machine. InputError for another project's."""
    project, name = written_image(name, LOCAL)
    if project != LOCAL:
        raise InputError(
            f"image {project}/{name} is not of this machine; on Google Cloud `goldsmith images check --project ID` "
            f"tells, and its labels: gcloud compute images describe {name} --project {project}"
        )
    return name


def written_image(text: str, project: str) -> tuple[str, str]:
    """Read PROJECT/NAME, or the NAME of an image of `project`; return both. InputError."""
    owner, slash, name = text.rpartition("/")
    try:
        return project_id(owner) if slash else project, check_name(name)
    except ValueError as error:
        raise InputError(f"image {quoted(text)}: {error}; an image is NAME or PROJECT/NAME") from error


def push_to_project(
    name: str,
    project: str,
    bucket: str | None,
    renamed: str | None,
    family: str | None,
    features: Sequence[str],
    *,
    keep: bool,
    as_json: bool,
) -> None:
    """Bring an image to a project, or go on with that, and print what is there then."""
    with shown() as progress, open_home(progress) as backend:
        done: PushedImage = opening.push_here(
            backend, name, project, bucket or default_bucket(project), renamed or name, family, features, keep=keep
        )
    if done.note:
        complain(done.note)
    if as_json:
        print_json(asdict(done))
        return
    joined = "in no family"
    if done.family:  # one that was there already may have newer ones in its family
        joined = f"{'in' if done.was_there else 'newest of'} family {done.family}"
    before = ", which was there already" if done.was_there else ""
    say(f"image {done.project}/{done.name}, id {done.id}, {joined}{before}")
    if done.archive and not done.note:
        say(f"archive {done.archive}")


def forget_record(name: str, place: Place) -> None:
    """Set the document of an image aside that cannot be read: NAME of this machine, or PROJECT/NAME."""
    project, name = written_image(name, place.project or LOCAL)
    with builds_at(place) as known:
        try:
            known.store.set_image_aside(project, name)
        except NotFound as error:
            raise InputError(str(error)) from error
    say(f"what was known of image {name} is forgotten; its record is kept, and the image itself stays, if there is one")


def _find(backend: LocalBackend, name: str) -> Image:
    image = backend.catalogue.get(name)
    if image is None:
        raise InputError(backend.catalogue.no_such(name))
    return image


def _find_begun(backend: LocalBackend, beginning: str) -> Image:
    """Find an image by its name, or by a beginning that no other has, for what changes nothing. InputError."""
    with suppress(InputError):  # of what is no whole name
        image = backend.catalogue.get(beginning)
        if image is not None:
            return image
    found = backend.catalogue.list(prefix=beginning)
    if len(found) > 1:
        names = ", ".join(image.name for image in found[:5])
        raise InputError(f"{beginning} begins the names of {len(found)} images: {names}; write more")
    return found[0] if found else _find(backend, beginning)
