"""goldsmith images retire: old images go away by rule on this machine; what a deployment does with its own is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from shared.errors import InputError, NotFound
from shared.runtime import opening

from ...exit_status import NOT_SUCCEEDED
from ...home import open_home
from ...places import open_client_of
from ...screen.tables import print_json, print_table, when
from ...screen.text import complain

if TYPE_CHECKING:
    from shared.published.retirement import RetireDone

_RETIRED = {"keep": "kept", "obsolete": "OBSOLETE now", "wait": "waits", "delete": "deleted"}
_PLANNED = {"keep": "kept", "obsolete": "would be OBSOLETE", "wait": "waits", "delete": "would be deleted"}


def retire_by_rule(
    families: Sequence[str], older_than: str | None, keep: int | None, *, dry_run: bool, as_json: bool
) -> int:
    """Retire images by the options, or by the rules of this home, and print what was done; return the exit status."""
    from shared.build.image.retire_rules import read_retire_rules

    given = {name: value for name, value in {"older_than": older_than, "keep": keep}.items() if value is not None}
    if given and not families:
        raise InputError("--older-than and --keep say when images of --family NAME go away; name a family")
    if families and not given:
        raise InputError(
            "--family says of which images the old ones go away; say which, with --older-than, --keep or both"
        )
    rules = read_retire_rules(dict.fromkeys(families, given), "options") if families else {}
    with open_home() as backend:
        here = opening.images_here(backend)
        done = list(here.retire(rules or here.retire_rules(), dry_run=dry_run))
    return _print(done, dry_run=dry_run, as_json=as_json)


def tell_retirement(project: str, bucket: str | None, *, dry_run: bool, as_json: bool) -> int:
    """Print what the last run of retire_images has done; with `dry_run`, what one would do now. InputError.

    That is by the rules of the last run, and with the caller's own permissions.
    """
    from shared.published.retirement import RetireDone

    client = open_client_of(project, bucket)
    try:
        report = client.retirement()
    except NotFound as error:
        raise InputError(str(error)) from error
    if dry_run:
        planned = client.plan_retirement(report.rules, report.consumers)
        return _print([RetireDone(verdict) for verdict in planned], dry_run=True, as_json=as_json)
    if not as_json:
        complain(f"what retire_images has done at {when(report.time)}")
    if len(report.told) < report.images:
        complain(f"the report tells of {len(report.told)} of {report.images} images")
    return _print(report.told, dry_run=False, as_json=as_json)


def _print(done: Sequence[RetireDone], *, dry_run: bool, as_json: bool) -> int:
    if as_json:
        print_json([{**asdict(each.verdict), "fault": each.fault} for each in done])
    else:
        what = _PLANNED if dry_run else _RETIRED
        rows = [(each.verdict, f"not done: {each.fault}" if each.fault else each.verdict.why) for each in done]
        print_table(("IMAGE", "FAMILY", "", "WHY"), [(v.name, v.family, what[v.action], why) for v, why in rows])
    return NOT_SUCCEEDED if any(each.fault or each.verdict.blind for each in done) else 0
