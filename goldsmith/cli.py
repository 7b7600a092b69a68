"""The commands, their arguments and their help. What a command does is in the module that it imports when it runs.

Imports at the top would cost every command, `--help` too, what only one needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from .cli_elements import elements
from .cli_triggers import triggers
from .options import (
    ArchiveArgument,
    AsJson,
    BucketOption,
    BuildId,
    ElementsPathOption,
    EngineOption,
    FormatsOption,
    ImageName,
    KeptFor,
    OnFailure,
    Parameters,
    ProjectOption,
    SourceOption,
    SpecArgument,
    WithSecrets,
    named_values,
)

if TYPE_CHECKING:
    from .places import Place

app = typer.Typer(
    name="goldsmith",
    help="Golden images: the same spec builds the same image on this machine and on Google Cloud.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
builds = typer.Typer(no_args_is_help=True, help="Builds, running and finished: of this machine, or of a project.")
images = typer.Typer(no_args_is_help=True, help="The image catalogue of this machine (project `local`).")
cache = typer.Typer(
    no_args_is_help=True, help="What earlier builds have left on this machine: results of steps, and packages."
)
app.add_typer(builds, name="builds")
app.add_typer(images, name="images")
app.add_typer(cache, name="cache")
app.add_typer(elements, name="elements")
app.add_typer(triggers, name="triggers")


@app.command()
def build(
    spec: SpecArgument,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", metavar="FOLDER", help="Write NAME.tar.gz and NAME.json into this folder."),
    ] = None,
    formats: FormatsOption = None,
    parameters: Parameters = None,
    source: SourceOption = None,
    boot: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="direct|firmware", help="How the build VM boots; instead of the spec's local.boot."),
    ] = None,
    engine: EngineOption = None,
    compression: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="fast|best", help="Of the archive: fast, or best at a third of the speed."),
    ] = None,
    key: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="TEXT", help="Idempotency key: the same key again is the same build, not another one."),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Run all steps; neither use results of earlier builds nor keep any.")
    ] = False,
    first: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--from", metavar="STEP", help="Run this step and all after it, whatever the cache has."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check-reproducible", help="Build twice, and fail unless both are the same."),
    ] = False,
    on_failure: OnFailure = None,
    kept: KeptFor = None,
    with_secrets: WithSecrets = False,
    retry_for: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="TIME", help="Keep an image so long that fails late, for `builds retry`; else 1d."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Build the image of a spec on this machine."""
    from .commands.build import BuildFlags, retry_seconds
    from .commands.build import build as run
    from .commands.held import hold_flags
    from .commands.images import format_names

    hold = hold_flags(on_failure, kept, secrets=with_secrets, as_json=json)
    written, kept_for = format_names(formats or ()), retry_seconds(retry_for)
    flags = BuildFlags(output, boot, compression, written, no_cache, first, check, hold, kept_for)
    raise typer.Exit(run(spec, named_values(parameters), source, flags, engine=engine, key=key, as_json=json))


@app.command()
def submit(
    spec: SpecArgument,
    project: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="ID", help="The project on Google Cloud; else the spec's build.project."),
    ] = None,
    bucket: BucketOption = None,
    parameters: Parameters = None,
    source: SourceOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the build to end.")] = False,
    kept: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--keep-on-failure", metavar="TIME", help="Keep the disk of a failed step so long."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Build the image of a spec on Google Cloud, and follow the build."""
    from .commands.submit import submit as run

    raise typer.Exit(
        run(spec, project, bucket, named_values(parameters), source, detach=detach, kept=kept, as_json=json)
    )


@app.command()
def validate(spec: SpecArgument, parameters: Parameters = None, source: SourceOption = None) -> None:
    """Check a spec and the files that it names; create nothing."""
    from .commands.specs import validate as run

    run(spec, named_values(parameters), source)


@app.command()
def plan(
    spec: SpecArgument,
    parameters: Parameters = None,
    source: SourceOption = None,
    engine: EngineOption = None,
    json: AsJson = False,
) -> None:
    """Show what a build of the spec would make."""
    from .commands.specs import plan as run

    run(spec, named_values(parameters), source, engine, as_json=json)


@app.command()
def convert(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="A cloudbuild.yaml that uses COS Customizer, a YAML list of diskimage-builder's images, a script that "
            "runs disk-image-create; or, behind --, such a command itself.",
        ),
    ],
    parameters: Parameters = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", metavar="FOLDER", help="Write each spec into a file of this folder."),
    ] = None,
    source: SourceOption = None,
    path: ElementsPathOption = None,
) -> None:
    """Print what another system's file comes to as a spec, or as several."""
    from .commands.convert import convert as run

    run(words, named_values(parameters), output, source, [Path(folder) for folder in path or ()])


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}
)
def dib(
    words: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="OPTION", help="Options and elements, as disk-image-create takes them."),
    ] = None,
) -> None:
    """Build the image of a command line of diskimage-builder's disk-image-create."""
    from .commands.dib import dib as run

    raise typer.Exit(run(words or ()))


@app.command()
def sweep(json: AsJson = False) -> None:
    """Finish or clean up what killed runs have left, and delete what belongs to no build."""
    from .commands.machine.sweep import sweep as run

    run(as_json=json)


@app.command()
def doctor(json: AsJson = False) -> None:
    """Check what builds need of this machine, and say how to get what is missing."""
    from .commands.machine.doctor import doctor as run

    raise typer.Exit(run(as_json=json))


@app.command("gpu-drivers")
def gpu_drivers(json: AsJson = False) -> None:
    """List the NVIDIA drivers that a step install-gpu can name."""
    from .commands.machine.gpu_drivers import gpu_drivers as run

    run(as_json=json)


@builds.command("list")
def builds_list(project: ProjectOption = None, bucket: BucketOption = None, json: AsJson = False) -> None:
    """List builds, newest first."""
    from .commands.builds import list_builds

    list_builds(_place(project, bucket), as_json=json)


@builds.command("show")
def builds_show(
    build_id: BuildId, project: ProjectOption = None, bucket: BucketOption = None, json: AsJson = False
) -> None:
    """Show one build: its steps, its outcome, what it made."""
    from .commands.builds import show_build

    show_build(build_id, _place(project, bucket), as_json=json)


@builds.command("logs")
def builds_logs(
    build_id: BuildId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the build is finished.")] = False,
    script: Annotated[
        str | None, typer.Option(metavar="PHASE/FILE", help="Only the lines of this script of an element.")
    ] = None,
    project: ProjectOption = None,
    bucket: BucketOption = None,
) -> None:
    """Print the console of a build's VM."""
    from .commands.builds import logs

    logs(build_id, _place(project, bucket), follow=follow, script=script)


@builds.command("cancel")
def builds_cancel(build_id: BuildId, project: ProjectOption = None, bucket: BucketOption = None) -> None:
    """End a running build and clean up after it."""
    from .commands.builds import cancel

    cancel(build_id, _place(project, bucket))


@builds.command("enter")
def builds_enter(build_id: BuildId, with_secrets: WithSecrets = False) -> None:
    """Open a shell where a step of a kept build has failed."""
    from .commands.held import enter_build

    enter_build(build_id, secrets=with_secrets)


@builds.command("retry")
def builds_retry(
    build_id: BuildId,
    start: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--from", metavar="export|verify|publish", help="An earlier phase than the one that failed."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", metavar="FOLDER", help="Write the export into this folder instead."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Go on with the image of a build that failed once its steps were done."""
    from .commands.build import retry_build

    raise typer.Exit(retry_build(build_id, start, output, as_json=json))


@builds.command("resume")
def builds_resume(
    build_id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="BUILD", help="A build's id, or the beginning of one; without it, all of them."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Finish, or clean up, what killed runs have left on this machine."""
    from .commands.builds import resume

    raise typer.Exit(resume(build_id, as_json=json))


@builds.command("forget")
def builds_forget(build_id: BuildId, project: ProjectOption = None, bucket: BucketOption = None) -> None:
    """Set aside a build that cannot be read, or that is finished."""
    from .commands.builds import forget_build

    forget_build(build_id, _place(project, bucket))


@cache.command("list")
def cache_list(json: AsJson = False) -> None:
    """List the layers, the one that was used last first."""
    from .commands.machine.cache import list_layers

    list_layers(as_json=json)


@cache.command("prune")
def cache_prune(
    keep: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="SIZE", help="What may stay, such as 5G; the layers that were used last stay."),
    ] = None,
) -> None:
    """Remove the layers that no build uses at this moment, and the files of package mirrors."""
    from .commands.machine.cache import prune as run

    run(keep)


@cache.command("verify")
def cache_verify() -> None:
    """Read all layers, and remove the damaged ones."""
    from .commands.machine.cache import verify as run

    raise typer.Exit(run())


@cache.command("export")
def cache_export(archive: ArchiveArgument) -> None:
    """Write all layers into an archive, for another machine."""
    from .commands.machine.cache import export_all as run

    run(archive)


@cache.command("import")
def cache_import(archive: ArchiveArgument) -> None:
    """Add the layers of an archive; their maker decides what the images have that are built with them."""
    from .commands.machine.cache import add as run

    run(archive)


@images.command("forget")
def images_forget(
    name: Annotated[str, typer.Argument(metavar="[PROJECT/]NAME", help="The image.")],
    project: ProjectOption = None,
    bucket: BucketOption = None,
) -> None:
    """Set aside what is known of an image and cannot be read; its name is free again."""
    from .commands.images import forget_record

    forget_record(name, _place(project, bucket))


@images.command("promote")
def images_promote(
    name: ImageName,
    channel: Annotated[str, typer.Option("--to", metavar="CHANNEL", help="One of channels.json, such as prod.")],
    json: AsJson = False,
) -> None:
    """Copy a verified image into a channel: the family FAMILY-CHANNEL leads to it then."""
    from .commands.images import promote

    promote(name, channel, as_json=json)


@images.command("revoke")
def images_revoke(
    name: ImageName,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="What is wrong with it, in one line.")],
    alone: Annotated[bool, typer.Option("--alone", help="Also where its family is left without a good image.")] = False,
    json: AsJson = False,
) -> None:
    """Take a published image back; its family goes back to the newest good one before it."""
    from .commands.images import revoke

    revoke(name, reason, alone=alone, as_json=json)


@images.command("retire")
def images_retire(
    family: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--family", metavar="NAME", help="A family whose old images go away; can be given several times."),
    ] = None,
    older_than: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="DURATION", help="Those that are older than that, such as 90d."),
    ] = None,
    keep: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="NUMBER", help="But not so many of the newest good ones; 1 without this."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what stays, and why.")] = False,
    json: AsJson = False,
) -> None:
    """Make old images that nothing uses OBSOLETE, and delete those that have been for a day."""
    from .commands.images import retire_by_rule

    raise typer.Exit(retire_by_rule(family or [], older_than, keep, dry_run=dry_run, as_json=json))


@images.command("check")
def images_check(
    name: ImageName,
    verified: Annotated[
        bool, typer.Option("--verified", help="Also status 1 for an image whose spec has no `verify`.")
    ] = False,
    provenance: Annotated[
        bool, typer.Option("--provenance", help="Also status 1 unless its signed statement holds for its disk.")
    ] = False,
    builder: Annotated[str, typer.Option(metavar="URI", help="With --provenance: who must have made it.")] = "",
    source: Annotated[
        str,
        typer.Option(metavar="IMAGE", help="With --provenance: what it must be made from: PROJECT/NAME, name or id."),
    ] = "",
    json: AsJson = False,
) -> None:
    """Say whether an image may be used; status 1 if not."""
    from .commands.images import print_verdict

    stated = (builder, source) if provenance or builder or source else None
    raise typer.Exit(print_verdict(name, verified=verified, stated=stated, as_json=json))


@images.command("push")
def images_push(
    name: ImageName,
    project: Annotated[str, typer.Option(metavar="ID", help="The project on Google Cloud that gets the image.")],
    bucket: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="The bucket for its archive; else PROJECT-goldsmith."),
    ] = None,
    renamed: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Its name there; else the same.")] = None,
    family: Annotated[Optional[str], typer.Option(metavar="NAME", help="The family that it joins; else none.")] = None,  # noqa: UP045
    feature: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--guest-os-feature", metavar="NAME", help="What its system can do, beside what its disk tells."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep-archive", help="Leave the archive in the bucket.")] = False,
    json: AsJson = False,
) -> None:
    """Make an image of this machine an image of a project on Google Cloud; the same command goes on after a kill."""
    from .commands.images import push_to_project

    push_to_project(name, project, bucket, renamed, family, feature or (), keep=keep, as_json=json)


@images.command("list")
def images_list(
    family: Annotated[Optional[str], typer.Option(metavar="NAME", help="Only images of this family.")] = None,  # noqa: UP045
    json: AsJson = False,
) -> None:
    """List images, newest first."""
    from .commands.images import list_images

    list_images(family, as_json=json)


@images.command("show")
def images_show(name: ImageName, json: AsJson = False) -> None:
    """Show one image, and what is inside."""
    from .commands.images import show_image

    show_image(name, as_json=json)


@images.command("provenance")
def images_provenance(
    name: ImageName,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", metavar="FILE", help="Write the signed envelope there instead of printing it."),
    ] = None,
    key: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="The public key that must have signed; else this machine's."),
    ] = None,
    builder: Annotated[str, typer.Option(metavar="URI", help="The builder that must have made it.")] = "",
    source: Annotated[
        str, typer.Option(metavar="IMAGE", help="What it must be made from: PROJECT/NAME, a name or an id.")
    ] = "",
) -> None:
    """Check the signed statement about an image's origin against its disk, and print it."""
    from .commands.images import show_statement

    raise typer.Exit(show_statement(name, output, key, builder, source))


@images.command("lineage")
def images_lineage(name: ImageName, json: AsJson = False) -> None:
    """List an image and the images that it was made from, one after the other."""
    from .commands.images import show_lineage

    show_lineage(name, as_json=json)


@images.command("signing-key")
def images_signing_key() -> None:
    """Print the public key that checks what this machine signs."""
    from .commands.images import show_signing_key

    show_signing_key()


@images.command("import")
def images_import(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A raw disk, also compressed, a tar.gz with disk.raw, qcow2, VMDK, VHD, VHDX or VDI."
        ),
    ],
    name: Annotated[Optional[str], typer.Option(metavar="NAME", help="Its name; else made from the file's.")] = None,  # noqa: UP045
    family: Annotated[Optional[str], typer.Option(metavar="NAME", help="The family that it joins.")] = None,  # noqa: UP045
    architecture: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="x86_64|arm64", help="Where the disk does not tell what its programs are for."),
    ] = None,
) -> None:
    """Take a disk image into the catalogue, after checking it."""
    from .commands.images import import_file

    import_file(file, name, family, architecture)


@images.command("export")
def images_export(
    name: ImageName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the files go.")],
    formats: FormatsOption = None,
    compression: Annotated[str, typer.Option(metavar="fast|best")] = "fast",
) -> None:
    """Write an image as the tar.gz that Compute Engine imports, or in other formats."""
    from .commands.images import export

    export(name, output, compression, formats or ())


@images.command("diff")
def images_diff(
    before: Annotated[str, typer.Argument(metavar="A", help="An image's name, or a file as for import.")],
    after: Annotated[str, typer.Argument(metavar="B", help="What it is compared with.")],
    everything: Annotated[bool, typer.Option("--all", help="Show every file; else long lists are summed up.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with status 1 when anything differs.")] = False,
    json: AsJson = False,
) -> None:
    """Show what differs between two images: partitions, system, packages, settings, files."""
    from .commands.diff import diff

    raise typer.Exit(diff(before, after, everything=everything, exit_code=exit_code, as_json=json))


@images.command("bootstrap")
def images_bootstrap(
    system: Annotated[str, typer.Argument(metavar="SYSTEM", help="What to make: debian-12 or debian-13.")],
    release: Annotated[Optional[str], typer.Option(metavar="NAME", help="Another release, such as sid.")] = None,  # noqa: UP045
    packages: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--package", metavar="NAME", help="A further package; may be given several times."),
    ] = None,
    mirror: Annotated[Optional[str], typer.Option(metavar="URL", help="Where the packages come from.")] = None,  # noqa: UP045
    architecture: Annotated[str, typer.Option(metavar="x86_64|arm64", help="The processor that it is for.")] = "x86_64",
) -> None:
    """Make a minimal bootable image from a distribution's packages."""
    from .commands.images import bootstrap

    bootstrap(system, release, packages or [], mirror, architecture)


@images.command("delete")
def images_delete(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Images to delete.")]) -> None:
    """Delete images from the catalogue."""
    from .commands.images import delete

    delete(names)


def _place(project: str | None, bucket: str | None) -> Place:
    from .places import Place

    if project is None and bucket is not None:
        raise typer.BadParameter("--bucket goes with --project ID")
    return Place(project, bucket)
