"""The command line: its groups, and the commands outside of them. What a command does is in the module that it imports.

Imports at the top would cost every command, `--help` too, what only one needs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from .build_options import (
    BootOption,
    CheckReproducible,
    CompressionOption,
    FirstStep,
    KeyOption,
    NoCache,
    OutputFolder,
    RetryFor,
)
from .builds import builds
from .cache import cache
from .command_group import BUILD, MACHINE, RESULTS, SPECS, CommandGroup
from .completions import families
from .elements import elements
from .images import images
from .options import (
    AsJson,
    BucketOption,
    ElementsPathOption,
    EngineOption,
    FormatsOption,
    KeptFor,
    OnFailure,
    OnlyOption,
    Parameters,
    Quiet,
    SourceOption,
    SpecArgument,
    VariableFiles,
    VariableOption,
    WithSecrets,
    chosen_place,
    named_values,
    not_empty,
    one_output,
)
from .triggers import triggers

app = CommandGroup("Golden images: the same spec builds the same image on this machine and on Google Cloud.")
app.add_group("builds", builds, RESULTS)
app.add_group("images", images, RESULTS)
app.add_group("cache", cache, MACHINE)
app.add_group("elements", elements, SPECS)
app.add_group("triggers", triggers, MACHINE)


def _print_version(*, wanted: bool) -> None:
    if wanted:
        from ..screen.text import say
        from ..version import RELEASE

        say(f"goldsmith {RELEASE}")
        raise typer.Exit


def _print_completion(*, wanted: bool) -> None:
    if wanted:
        from ..completion.installation import shell_in_use
        from ..completion.scripts import SHELL_SCRIPTS
        from ..screen.text import say

        say(SHELL_SCRIPTS[shell_in_use(os.environ, os.getppid())].rstrip())
        raise typer.Exit


def _install_completion(*, wanted: bool) -> None:
    if wanted:
        from ..completion.installation import install_completion, shell_in_use
        from ..screen.text import say

        shell = shell_in_use(os.environ, os.getppid())
        say(f"completion of {shell} is installed in {install_completion(shell, os.environ)}; it works in new shells")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end.")
    ] = False,
    no_pager: Annotated[
        bool, typer.Option("--no-pager", help="Print long output as it is; as PAGER=cat does.")
    ] = False,
    install: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            callback=_install_completion,
            is_eager=True,
            help="Make Tab complete, in this shell: bash, zsh or fish.",
        ),
    ] = False,
    show: Annotated[
        bool,
        typer.Option(
            "--show-completion",
            callback=_print_completion,
            is_eager=True,
            help="Print the script that does so, and end.",
        ),
    ] = False,
) -> None:
    """Take what stands before the command."""
    if no_pager:
        os.environ["PAGER"] = "cat"


@app.command(rich_help_panel=BUILD)
def init(
    spec: Annotated[Path, typer.Argument(metavar="[SPEC]", help="The file to write.")] = Path("build.yaml"),
    name: Annotated[Optional[str], typer.Option(metavar="NAME", help="The spec's name; else the folder's.")] = None,  # noqa: UP045
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="FAMILY",
            autocompletion=families,
            help="What to start from: a family of this machine, or PROJECT/FAMILY.",
        ),
    ] = None,
    packages: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--package", metavar="NAME", help="A package to install; may be given several times."),
    ] = None,
    script: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="FILE", help="A script to run, written if it is not there; '' for none."),
    ] = None,
    family: Annotated[Optional[str], typer.Option(metavar="NAME", help="The image's family; else the name.")] = None,  # noqa: UP045
    engine: EngineOption = None,
    project: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="ID", help="Build on Google Cloud, in this project."),
    ] = None,
    origin: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--from", metavar="FILE", help="Take everything from a file that `goldsmith convert` reads."),
    ] = None,
    defaults: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing, and take what is usual.")] = False,
) -> None:
    """Write a first spec: asks in a terminal what no option says."""
    from ..commands.machine.init import Answers
    from ..commands.machine.init import init as run

    named = None if packages is None else tuple(packages)
    run(spec, Answers(name, source, named, script, family, engine, project), origin, defaults=defaults)


@app.command(rich_help_panel=BUILD)
def build(
    spec: SpecArgument,
    output: OutputFolder = None,
    formats: FormatsOption = None,
    parameters: Parameters = None,
    source: SourceOption = None,
    boot: BootOption = None,
    engine: EngineOption = None,
    compression: CompressionOption = None,
    key: KeyOption = None,
    no_cache: NoCache = False,
    first: FirstStep = None,
    check: CheckReproducible = False,
    on_failure: OnFailure = None,
    kept: KeptFor = None,
    with_secrets: WithSecrets = False,
    retry_for: RetryFor = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Build the image of a spec on this machine."""
    from ..commands.build import BuildFlags, retry_seconds
    from ..commands.build import build as run
    from ..commands.held import hold_flags
    from ..commands.images import format_names
    from ..screen.view import quiet_view, view

    one_output(as_json=json, quiet=quiet)
    hold = hold_flags(on_failure, kept, secrets=with_secrets, as_json=json)
    written, kept_for = format_names(formats or ()), retry_seconds(retry_for)
    show = quiet_view if quiet else view
    flags = BuildFlags(output, boot, compression, written, no_cache, first, check, hold, kept_for, show=show)
    raise typer.Exit(run(spec, named_values(parameters), source, flags, engine=engine, key=key, as_json=json))


@app.command(rich_help_panel=BUILD)
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
    author: Annotated[
        bool,
        typer.Option("--author", help="Prove that you are the image's author, by the account that gcloud acts as."),
    ] = False,
    impersonate: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="ACCOUNT",
            callback=not_empty,
            help="Prove it by your service account, of which gcloud gets a token.",
        ),
    ] = None,
    token_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Prove it by the identity token in a file."),
    ] = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Build the image of a spec on Google Cloud, and follow the build."""
    from ..commands.published.mail_proof import MailProof
    from ..commands.submit import SubmitFlags
    from ..commands.submit import submit as run
    from ..screen.view import quiet_view, view

    asked = MailProof(impersonate or "", token_file)
    proof = asked if author or asked != MailProof() else None
    one_output(as_json=json, quiet=quiet)
    flags = SubmitFlags(detach, kept, proof, quiet_view if quiet else view)
    raise typer.Exit(run(spec, project, bucket, named_values(parameters), source, flags, as_json=json))


@app.command(rich_help_panel=SPECS)
def validate(
    spec: SpecArgument, parameters: Parameters = None, source: SourceOption = None, json: AsJson = False
) -> None:
    """Check a spec and the files that it names; create nothing."""
    from ..commands.specs import validate as run

    run(spec, named_values(parameters), source, as_json=json)


@app.command(rich_help_panel=SPECS)
def schema() -> None:
    """Print the JSON schema of the spec, by which editors complete and explain its keys."""
    from ..commands.schema import print_schema

    print_schema()


@app.command(rich_help_panel=SPECS)
def plan(
    spec: SpecArgument,
    parameters: Parameters = None,
    source: SourceOption = None,
    engine: EngineOption = None,
    project: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="ID", help="Plan it for this project on Google Cloud, with time, quota and cost."),
    ] = None,
    bucket: BucketOption = None,
    prices: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="With --project, prices in JSON that take the place of the shipped ones."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Show what a build of the spec would make."""
    place = chosen_place(project, bucket)
    if place.project is not None:
        from ..commands.cloud_plan import plan_there

        if engine is not None:
            raise typer.BadParameter("--engine is of this machine, and --project builds elsewhere")
        plan_there(spec, named_values(parameters), source, place, prices, as_json=json)
        return
    from ..commands.specs import plan as run

    if prices is not None:
        raise typer.BadParameter("--prices needs --project: a build on this machine costs nothing on Google Cloud")
    run(spec, named_values(parameters), source, engine, as_json=json)


@app.command(rich_help_panel=SPECS)
def convert(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="A cloudbuild.yaml that uses COS Customizer, a YAML list of diskimage-builder's images, a script that "
            "runs disk-image-create, a template of Packer or a folder of them; or, behind --, a command of "
            "disk-image-create itself.",
        ),
    ],
    parameters: VariableOption = None,
    variable_files: VariableFiles = None,
    only: OnlyOption = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", metavar="FOLDER", help="Write each spec into a file of this folder."),
    ] = None,
    source: SourceOption = None,
    path: ElementsPathOption = None,
) -> None:
    """Print what another system's file comes to as a spec, or as several."""
    from ..commands.dialects.convert import convert as run

    folders = [Path(folder) for folder in path or ()]
    run(words, named_values(parameters), output, source, folders, variable_files or (), only or ())


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []},
    rich_help_panel=SPECS,
)
def dib(
    words: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="OPTION", help="Options and elements, as disk-image-create takes them."),
    ] = None,
) -> None:
    """Build the image of a command line of diskimage-builder's disk-image-create."""
    from ..commands.dialects.dib import dib as run

    raise typer.Exit(run(words or ()))


@app.command(rich_help_panel=MACHINE)
def sweep(json: AsJson = False) -> None:
    """Finish or clean up what killed runs have left, and delete what belongs to no build."""
    from ..commands.machine.sweep import sweep as run

    run(as_json=json)


@app.command(rich_help_panel=MACHINE)
def serve(
    port: Annotated[
        int, typer.Option(metavar="NUMBER", min=0, max=65535, help="A port of 127.0.0.1; 0 takes a free one.")
    ] = 0,
) -> None:
    """Show builds and images of this machine in a browser, until Ctrl-C."""
    from ..commands.machine.serve import serve as run

    run(port)


@app.command(rich_help_panel=MACHINE)
def doctor(
    install: Annotated[
        bool, typer.Option("--install", help="Install missing packages first, by apt-get, as root or by sudo.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Check what builds need of this machine, and say how to get what is missing."""
    from ..commands.machine.doctor import doctor as run

    raise typer.Exit(run(as_json=json, install=install))


@app.command("gpu-drivers", rich_help_panel=MACHINE)
def gpu_drivers(json: AsJson = False) -> None:
    """List the NVIDIA drivers that a step install-gpu can name."""
    from ..commands.machine.gpu_drivers import gpu_drivers as run

    run(as_json=json)
