"""Arguments and options that several commands have, with their help; typer reads them at run time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from .completions import build_ids, formats, image_names, one_of

if TYPE_CHECKING:
    from ..places import Place

RESULT, RUN, FAILURE = "What is made", "How it is built", "When a step fails"
"""The sections of the options of a build."""

SpecArgument = Annotated[
    Path, typer.Argument(metavar="SPEC", help="The spec, or a cloudbuild.yaml that uses COS Customizer: YAML or JSON.")
]
Parameters = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads annotations at run time, and this form everywhere
    typer.Option("--set", metavar="NAME=VALUE", help="Give a parameter or a substitution another value."),
]
VariableOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", "--var", metavar="NAME=VALUE", help="Give a substitution or a variable another value."),
]
VariableFiles = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Option("--var-file", metavar="FILE", help="A file of values for the variables of a template of Packer."),
]
OnlyOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--only", metavar="NAME", help="Of a template of Packer only this image; may have * and ?."),
]
SourceOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(metavar="FOLDER", help="What a cloudbuild.yaml is built from; else the current folder."),
]
ElementsPathOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--path",
        metavar="FOLDER",
        help="A folder that holds elements; may be given several times, the first that has an element wins.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print the image's project and name alone; notes and errors as otherwise."),
]
ProjectOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="ID", help="The project on Google Cloud; without it, this machine."),
]
BucketOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="NAME", help="The project's bucket for Goldsmith; else PROJECT-goldsmith."),
]
FormatsOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--format",
        metavar="NAME,...",
        autocompletion=formats,
        rich_help_panel=RESULT,
        help="Formats such as qcow2,vmdk,oci; may be given several times.",
    ),
]
EngineOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="vm|chroot|auto",
        autocompletion=one_of("vm", "chroot", "auto"),
        rich_help_panel=RUN,
        help="What the steps run in; instead of the spec's local.engine.",
    ),
]
ArchiveArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A tar archive: .tar, .tar.gz, .tar.xz or .tar.zst.")
]
OnFailure = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--on-failure",
        metavar="shell",
        autocompletion=one_of("shell"),
        rich_help_panel=FAILURE,
        help="Open a shell in the state that a failed step has left.",
    ),
]
KeptFor = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--keep-on-failure",
        metavar="TIME",
        rich_help_panel=FAILURE,
        help="Keep that state so long for `goldsmith builds enter`.",
    ),
]
WithSecrets = Annotated[
    bool, typer.Option("--with-secrets", rich_help_panel=FAILURE, help="Show the shell the step's secrets, too.")
]
BuildId = Annotated[
    str,
    typer.Argument(metavar="BUILD", autocompletion=build_ids, help="A build's id, or the beginning of one."),
]
ImageName = Annotated[str, typer.Argument(metavar="NAME", autocompletion=image_names, help="An image's name.")]


def not_empty(value: Optional[str]) -> Optional[str]:  # noqa: UP045 - typer reads annotations at run time
    """Return an option's value. typer.BadParameter for an unset variable's, which would ask for less than was meant."""
    if value is not None and not value.strip():
        raise typer.BadParameter("it is empty; write a value, or leave the option out")
    return value


def named_values(parameters: list[str] | None) -> dict[str, str]:
    """Return the values of --set by their names. typer.BadParameter."""
    pairs = {}
    for parameter in parameters or []:
        name, equals, value = parameter.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--set {parameter}: write NAME=VALUE")
        pairs[name] = value
    return pairs


def one_output(*, as_json: bool, quiet: bool) -> None:
    """Check that one form of output is asked for. typer.BadParameter."""
    if as_json and quiet:
        raise typer.BadParameter("--json prints all that happens, and --quiet the result alone; leave one out")


def chosen_place(project: str | None, bucket: str | None) -> Place:
    """Return the place that a command is about. typer.BadParameter."""
    from ..places import Place

    if project is None and bucket is not None:
        raise typer.BadParameter("--bucket goes with --project ID")
    return Place(project, bucket)
