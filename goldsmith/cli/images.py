"""The commands of `goldsmith images`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from .command_group import LOOK, MAKE, PUBLISHED, CommandGroup
from .completions import families, image_names, one_of
from .options import AsJson, BucketOption, FormatsOption, ImageName, ProjectOption, chosen_place, not_empty

images = CommandGroup("The image catalogue of this machine (project `local`).")


@images.command("forget", rich_help_panel=PUBLISHED)
def images_forget(
    name: Annotated[str, typer.Argument(metavar="[PROJECT/]NAME", autocompletion=image_names, help="The image.")],
    project: ProjectOption = None,
    bucket: BucketOption = None,
) -> None:
    """Set aside what is known of an image and cannot be read; its name is free again."""
    from ..commands.images import forget_record

    forget_record(name, chosen_place(project, bucket))


@images.command("promote", rich_help_panel=PUBLISHED)
def images_promote(
    name: ImageName,
    channel: Annotated[str, typer.Option("--to", metavar="CHANNEL", help="One of channels.json, such as prod.")],
    json: AsJson = False,
) -> None:
    """Copy a verified image into a channel: the family FAMILY-CHANNEL leads to it then."""
    from ..commands.published.promotions import promote

    promote(name, channel, as_json=json)


@images.command("approve", rich_help_panel=PUBLISHED)
def images_approve(
    name: ImageName,
    channel: Annotated[str, typer.Option("--channel", metavar="CHANNEL", help="What it is to be promoted to.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, in one line; it is recorded.")],
    refuse: Annotated[bool, typer.Option("--refuse", help="Say no: the promotion ends.")] = False,
    impersonate: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="ACCOUNT",
            callback=not_empty,
            help="With --project: your service account that approves; gcloud asks it.",
        ),
    ] = None,
    token_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="With --project: a file with the identity token, instead."),
    ] = None,
    project: ProjectOption = None,
    bucket: BucketOption = None,
    json: AsJson = False,
) -> None:
    """Say yes to a promotion that waits for approval; with enough approvers it is carried out."""
    from ..commands.published.mail_proof import MailProof
    from ..commands.published.promotions import approve

    proof = MailProof(impersonate or "", token_file)
    place = chosen_place(project, bucket)
    raise typer.Exit(approve(name, channel, reason, proof, place, refuse=refuse, as_json=json))


@images.command("approvals", rich_help_panel=PUBLISHED)
def images_approvals(project: ProjectOption = None, bucket: BucketOption = None, json: AsJson = False) -> None:
    """List the promotions that wait for approval."""
    from ..commands.published.promotions import list_approvals

    list_approvals(chosen_place(project, bucket), as_json=json)


@images.command("revoke", rich_help_panel=PUBLISHED)
def images_revoke(
    name: ImageName,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="What is wrong with it, in one line.")],
    alone: Annotated[bool, typer.Option("--alone", help="Also where its family is left without a good image.")] = False,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Then build the specs again whose images were made from it.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Take a published image back; its family goes back to the newest good one before it."""
    from ..commands.published.revoke import revoke

    raise typer.Exit(revoke(name, reason, alone=alone, cascade=cascade, as_json=json))


@images.command("retire", rich_help_panel=PUBLISHED)
def images_retire(
    family: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--family",
            metavar="NAME",
            autocompletion=families,
            help="A family whose old images go away; can be given several times.",
        ),
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
    project: ProjectOption = None,
    bucket: BucketOption = None,
    json: AsJson = False,
) -> None:
    """Make old images that nothing uses OBSOLETE, and delete those that have been for a day.

    With --project, tell what the deployment's last run has done or, with --dry-run, what one would do now.
    """
    from ..commands.published.retire import retire_by_rule, tell_retirement

    if chosen_place(project, bucket).project is not None:
        assert project is not None
        if family or older_than is not None or keep is not None:
            raise typer.BadParameter("the rules of a deployment are Terraform's retire_images; leave --family out")
        raise typer.Exit(tell_retirement(project, bucket, dry_run=dry_run, as_json=json))
    raise typer.Exit(retire_by_rule(family or [], older_than, keep, dry_run=dry_run, as_json=json))


@images.command("check", rich_help_panel=LOOK)
def images_check(
    name: Annotated[str, typer.Argument(metavar="[PROJECT/]NAME", autocompletion=image_names, help="The image.")],
    verified: Annotated[
        bool, typer.Option("--verified", help="Also status 1 for an image whose spec has no `verify`.")
    ] = False,
    provenance: Annotated[
        bool, typer.Option("--provenance", help="Also status 1 unless its signed statement holds for its disk.")
    ] = False,
    builder: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="URI", callback=not_empty, help="With --provenance: who must have made it."),
    ] = None,
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="IMAGE",
            callback=not_empty,
            help="With --provenance: what it must be made from: PROJECT/NAME, name or id.",
        ),
    ] = None,
    key: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="FILE|VERSION",
            help="With --provenance: a public key that may have signed, or with --project a key version of Cloud KMS; "
            "can be given several times. Else this machine's key, or those of the deployment.",
        ),
    ] = None,
    project: ProjectOption = None,
    bucket: BucketOption = None,
    json: AsJson = False,
) -> None:
    """Say whether an image may be used; status 1 if not."""
    from ..commands.images import print_verdict

    stated = (builder or "", source or "") if provenance or builder or source or key else None
    place = chosen_place(project, bucket)
    raise typer.Exit(print_verdict(name, place, verified=verified, stated=stated, keys=key or (), as_json=json))


@images.command("push", rich_help_panel=MAKE)
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
    from ..commands.images import push_to_project

    push_to_project(name, project, bucket, renamed, family, feature or (), keep=keep, as_json=json)


@images.command("distribute", rich_help_panel=PUBLISHED)
def images_distribute(
    name: Annotated[str, typer.Argument(metavar="[PROJECT/]NAME", help="A published image on Google Cloud.")],
    project: Annotated[str, typer.Option(metavar="ID", help="The project of the deployment, and of the image.")],
    bucket: BucketOption = None,
    share: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--share", metavar="MEMBER", help="A member that may use it; may be given several times."),
    ] = None,
    copy: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--copy",
            metavar="PROJECT|KEY=VALUE,...",
            help="A copy, with the keys of output.copies; may be given several times.",
        ),
    ] = None,
    export: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="gs://BUCKET/OBJECT.tar.gz", help="Write it there as files, or to a folder, / last."),
    ] = None,
    formats: FormatsOption = None,
    wait: Annotated[str, typer.Option(metavar="DURATION", help="For how long to wait for what comes of it.")] = "10m",
    json: AsJson = False,
) -> None:
    """Share an image of a deployment, copy it to other projects, write it to a bucket; status 1 if one is refused."""
    from ..commands.published.distribute import WantedTargets, give_to_others

    targets = WantedTargets(share or (), copy or (), export, formats or ())
    raise typer.Exit(give_to_others(name, chosen_place(project, bucket), targets, wait, as_json=json))


@images.command("list", rich_help_panel=LOOK)
def images_list(
    family: Annotated[
        str | None, typer.Option(metavar="NAME", autocompletion=families, help="Only images of this family.")
    ] = None,
    json: AsJson = False,
) -> None:
    """List images, newest first."""
    from ..commands.images import list_images

    list_images(family, as_json=json)


@images.command("show", rich_help_panel=LOOK)
def images_show(name: ImageName, json: AsJson = False) -> None:
    """Show one image, and what is inside."""
    from ..commands.images import show_image

    show_image(name, as_json=json)


@images.command("provenance", rich_help_panel=LOOK)
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
    builder: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="URI", callback=not_empty, help="The builder that must have made it."),
    ] = None,
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="IMAGE", callback=not_empty, help="What it must be made from: PROJECT/NAME, a name or an id."
        ),
    ] = None,
) -> None:
    """Check the signed statement about an image's origin against its disk, and print it."""
    from ..commands.images import show_statement

    raise typer.Exit(show_statement(name, output, key, builder or "", source or ""))


@images.command("lineage", rich_help_panel=LOOK)
def images_lineage(name: ImageName, json: AsJson = False) -> None:
    """List an image and the images that it was made from, one after the other."""
    from ..commands.images import show_lineage

    show_lineage(name, as_json=json)


@images.command("signing-key", rich_help_panel=LOOK)
def images_signing_key() -> None:
    """Print the public key that checks what this machine signs."""
    from ..commands.images import show_signing_key

    show_signing_key()


@images.command("import", rich_help_panel=MAKE)
def images_import(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A raw disk, also compressed, a tar.gz with disk.raw, qcow2, VMDK, VHD, VHDX or VDI."
        ),
    ],
    name: Annotated[Optional[str], typer.Option(metavar="NAME", help="Its name; else made from the file's.")] = None,  # noqa: UP045
    family: Annotated[
        str | None, typer.Option(metavar="NAME", autocompletion=families, help="The family that it joins.")
    ] = None,
    architecture: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="x86_64|arm64",
            autocompletion=one_of("x86_64", "arm64"),
            help="Where the disk does not tell what its programs are for.",
        ),
    ] = None,
) -> None:
    """Take a disk image into the catalogue, after checking it."""
    from ..commands.images import import_file

    import_file(file, name, family, architecture)


@images.command("export", rich_help_panel=MAKE)
def images_export(
    name: ImageName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the files go.")],
    formats: FormatsOption = None,
    compression: Annotated[
        str,
        typer.Option(
            metavar="fast|best",
            autocompletion=one_of("fast", "best"),
            help="Of the files: fast, or best at a third of the speed.",
        ),
    ] = "fast",
) -> None:
    """Write an image as the tar.gz that Compute Engine imports, or in other formats."""
    from ..commands.images import export

    export(name, output, compression, formats or ())


@images.command("diff", rich_help_panel=LOOK)
def images_diff(
    before: Annotated[
        str, typer.Argument(metavar="A", autocompletion=image_names, help="An image's name, or a file as for import.")
    ],
    after: Annotated[str, typer.Argument(metavar="B", autocompletion=image_names, help="What it is compared with.")],
    everything: Annotated[bool, typer.Option("--all", help="Show every file; else long lists are summed up.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with status 1 when anything differs.")] = False,
    json: AsJson = False,
) -> None:
    """Show what differs between two images: partitions, system, packages, settings, files."""
    from ..commands.diff import diff

    raise typer.Exit(diff(before, after, everything=everything, exit_code=exit_code, as_json=json))


@images.command("bootstrap", rich_help_panel=MAKE)
def images_bootstrap(
    system: Annotated[
        str,
        typer.Argument(
            metavar="SYSTEM",
            autocompletion=one_of("debian-12", "debian-13"),
            help="What to make: debian-12 or debian-13.",
        ),
    ],
    release: Annotated[Optional[str], typer.Option(metavar="NAME", help="Another release, such as sid.")] = None,  # noqa: UP045
    packages: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--package", metavar="NAME", help="A further package; may be given several times."),
    ] = None,
    mirror: Annotated[Optional[str], typer.Option(metavar="URL", help="Where the packages come from.")] = None,  # noqa: UP045
    architecture: Annotated[
        str,
        typer.Option(
            metavar="x86_64|arm64", autocompletion=one_of("x86_64", "arm64"), help="The processor that it is for."
        ),
    ] = "x86_64",
) -> None:
    """Make a minimal bootable image from a distribution's packages."""
    from ..commands.images import bootstrap

    bootstrap(system, release, packages or [], mirror, architecture)


@images.command("delete", rich_help_panel=MAKE)
def images_delete(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", autocompletion=image_names, help="Images to delete.")
    ],
) -> None:
    """Delete images from the catalogue."""
    from ..commands.images import delete

    delete(names)
