"""goldsmith plan --project: what a build on Google Cloud would make, need and cost, by earlier builds there."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.build.build import Build
from shared.build.cost.estimate import Estimate, estimate_build, needed_quota, region_text
from shared.build.cost.list_prices import LIST_PRICES
from shared.build.cost.price_list import PriceList, read_prices
from shared.build.events import to_json
from shared.build.plan import Context, Plan
from shared.context.outside import outside
from shared.context.packing import pack_context
from shared.delivery.bundle import provisioner_version
from shared.errors import InputError
from shared.planning.plan import make_plan
from shared.planning.sources import is_from_nothing, resolve_source
from shared.quantities import format_duration
from shared.runtime import opening

from ..places import Place, open_client_of
from ..screen.tables import print_json
from ..screen.text import say
from .specs import LOOKED_AT, read_builds

if TYPE_CHECKING:
    from shared.runtime.opening import CloudClient
    from shared.spec.model import Spec

LARGEST_LIST = 1 << 20  # bytes of a price list


def prices_from(path: Path | None) -> PriceList:
    """Return the shipped price list, with the entries of a file over it. InputError."""
    if path is None:
        return LIST_PRICES
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_LIST + 1)
    except OSError as error:
        raise InputError(f"--prices {path}: {error.strerror}") from error
    if len(data) > LARGEST_LIST:
        raise InputError(f"--prices {path}: more than {LARGEST_LIST} bytes; it is no price list")
    return read_prices(data.decode(errors="replace"), str(path)).over(LIST_PRICES)


def plan_there(
    path: Path,
    parameters: Mapping[str, str],
    source: Path | None,
    place: Place,
    prices: Path | None,
    *,
    as_json: bool,
) -> None:
    """Print what a build of a project would make, need and cost; of a workflow of several, what each would."""
    assert place.project is not None
    listed = prices_from(prices)
    asked = f"goldsmith plan {uuid.uuid4()}"
    file = read_builds(path, parameters, asked, source, place.project)
    client = open_client_of(place.project, place.bucket)
    builds = [build for build in client.store.builds(limit=LOOKED_AT) if isinstance(build, Build)]
    documents = []
    for number, build in enumerate(file.builds):
        made = plan_in(build.spec, file.folder, client, builds, place.project, asked)
        found = estimate_build(made, builds, listed)
        unchanged = client.unchanged(made) if made.rebuild == "changed" else ""
        documents.append(planned_json(made, found, unchanged))
        if not as_json:
            say("\n" * (number > 0) + "\n".join(planned_lines(made, found, unchanged)))
    if as_json:
        print_json(documents if len(documents) > 1 else documents[0])


def plan_in(spec: Spec, folder: Path, client: CloudClient, builds: Sequence[Build], project: str, asked: str) -> Plan:
    """Return the plan of a build in a project. InputError for what only its deployment can plan."""
    if is_from_nothing(spec.source):
        raise InputError(f"{spec.name}: a root from nothing is planned on this machine alone; leave --project out")
    if spec.context is not None and spec.context.startswith("gs:"):
        raise InputError(f"{spec.name}: its context is in a bucket; plan it where its folder is")
    if spec.build.project is None:
        spec = spec.model_copy(update={"build": spec.build.model_copy(update={"project": project})})
    made = make_plan(
        spec,
        source=resolve_source(spec.source, client.compute),
        context=_context(spec, folder),
        request=asked,
        requested=client.clock.now(),
        provisioner_version=provisioner_version(),
    )
    if made.machine.zones:
        return made
    zones = next(
        (build.plan.machine.zones for build in builds if build.plan is not None and build.plan.machine.zones), ()
    )
    return replace(made, machine=replace(made.machine, zones=zones))


def _context(spec: Spec, folder: Path) -> Context | None:
    if spec.context is None:
        return None
    with opening.temporary_folder() as own:
        made = pack_context(folder / spec.context, own / "context.tar", outside(spec.steps))
        return Context("", made.digest, made.size)


def planned_json(made: Plan, found: Estimate, unchanged: str) -> dict[str, Any]:
    """Return the plan as JSON, with what it needs and costs beside it."""
    return {
        **to_json(made),  # type: ignore[arg-type]
        "unchanged": unchanged or None,
        "quota": needed_quota(made),
        "estimate": found.to_json(),
    }


def planned_lines(made: Plan, found: Estimate, unchanged: str) -> list[str]:
    """Return the same for people."""
    machine, image, first = made.machine, made.image, made.source
    vm = (
        f"{machine.machine_type}{', Spot' if machine.spot else ''}{', ' + machine.gpu_type if machine.gpu_type else ''}"
    )
    quota = ", ".join(f"{name} {count}" for name, count in needed_quota(made).items())
    cost = found.usage.cost_text if found.usage is not None else "not known, as its time"
    lines = [
        ("image", f"{image.project}/{image.name}" + (f", family {image.family}" if image.family else "")),
        ("from", f"{first.project}/{first.name}, {first.architecture}, {first.disk_size_gb} GB"),
        ("machine", f"{vm}, {machine.disk_size_gb} GB {machine.disk_type}, in {region_text(made)}"),
        ("steps", ", ".join(f"{step.name} ({step.action})" for step in made.steps) or "none"),
        ("deadline", f"{format_duration(made.timeout)} after the request, {made.attempts} attempts"),
        ("digest", made.content_digest),
        ("quota", quota or "not known"),
        ("time", found.text),
        ("cost", cost),
    ]
    if unchanged:
        lines.append(("unchanged", f"image {unchanged} has this content; nothing will be built"))
    return [f"{name + ':':<10} {value}" for name, value in lines]
