"""The commands of `goldsmith builds`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from .command_group import CommandGroup
from .completions import build_ids, one_of
from .options import AsJson, BucketOption, BuildId, ProjectOption, Quiet, WithSecrets, chosen_place, one_output

builds = CommandGroup("Builds, running and finished: of this machine, or of a project.")


@builds.command("list")
def builds_list(project: ProjectOption = None, bucket: BucketOption = None, json: AsJson = False) -> None:
    """List builds, newest first."""
    from ..commands.builds import list_builds

    list_builds(chosen_place(project, bucket), as_json=json)


@builds.command("show")
def builds_show(
    build_id: BuildId, project: ProjectOption = None, bucket: BucketOption = None, json: AsJson = False
) -> None:
    """Show one build: its steps, its outcome, what it made."""
    from ..commands.builds import show_build

    show_build(build_id, chosen_place(project, bucket), as_json=json)


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
    from ..commands.builds import logs

    logs(build_id, chosen_place(project, bucket), follow=follow, script=script)


@builds.command("cancel")
def builds_cancel(build_id: BuildId, project: ProjectOption = None, bucket: BucketOption = None) -> None:
    """End a running build and clean up after it."""
    from ..commands.builds import cancel

    cancel(build_id, chosen_place(project, bucket))


@builds.command("enter")
def builds_enter(build_id: BuildId, with_secrets: WithSecrets = False) -> None:
    """Open a shell where a step of a kept build has failed."""
    from ..commands.held import enter_build

    enter_build(build_id, secrets=with_secrets)


@builds.command("retry")
def builds_retry(
    build_id: BuildId,
    start: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--from",
            metavar="export|verify|publish",
            autocompletion=one_of("export", "verify", "publish"),
            help="An earlier phase than the one that failed.",
        ),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", metavar="FOLDER", help="Write the export into this folder instead."),
    ] = None,
    project: ProjectOption = None,
    bucket: BucketOption = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Go on with the image of a build that failed once its steps were done."""
    from ..screen.view import quiet_view, view

    one_output(as_json=json, quiet=quiet)
    place, show = chosen_place(project, bucket), quiet_view if quiet else view
    if place.project is not None:
        from ..commands.submit import retry_there

        if output is not None:
            raise typer.BadParameter("--output names a folder of this machine, and --project builds elsewhere")
        raise typer.Exit(retry_there(build_id, start, place, show, as_json=json))
    from ..commands.build import retry_build

    raise typer.Exit(retry_build(build_id, start, output, show, as_json=json))


@builds.command("resume")
def builds_resume(
    build_id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            metavar="BUILD",
            autocompletion=build_ids,
            help="A build's id, or the beginning of one; without it, all of them.",
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Finish, or clean up, what killed runs have left on this machine."""
    from ..commands.builds import resume

    raise typer.Exit(resume(build_id, as_json=json))


@builds.command("forget")
def builds_forget(build_id: BuildId, project: ProjectOption = None, bucket: BucketOption = None) -> None:
    """Set aside a build that cannot be read, or that is finished."""
    from ..commands.builds import forget_build

    forget_build(build_id, chosen_place(project, bucket))
