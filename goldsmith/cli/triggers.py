"""The commands of `goldsmith triggers`."""

from __future__ import annotations

import typer

from .command_group import CommandGroup
from .options import AsJson, Parameters, SpecArgument, named_values

triggers = CommandGroup("Specs that are built again by themselves, on this machine.")


@triggers.command("add")
def triggers_add(spec: SpecArgument, parameters: Parameters = None) -> None:
    """Keep a spec that has triggers, so that `triggers run` builds it."""
    from ..commands.triggers import add_trigger

    add_trigger(spec, named_values(parameters))


@triggers.command("list")
def triggers_list(json: AsJson = False) -> None:
    """List the specs that are built again by themselves."""
    from ..commands.triggers import list_triggers

    list_triggers(as_json=json)


@triggers.command("remove")
def triggers_remove(spec: SpecArgument) -> None:
    """Build a spec no more by itself."""
    from ..commands.triggers import remove_trigger

    remove_trigger(spec)


@triggers.command("resume")
def triggers_resume(spec: SpecArgument) -> None:
    """Build a spec by itself again that is paused, since too many builds have failed."""
    from ..commands.triggers import resume_trigger

    resume_trigger(spec)


@triggers.command("run")
def triggers_run() -> None:
    """Build all that is due now, and end: for cron, or a timer of systemd."""
    from ..commands.triggers import run_triggers

    raise typer.Exit(run_triggers())
