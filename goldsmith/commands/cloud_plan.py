"""goldsmith plan --project: what a build on Google Cloud would make, need and cost, by earlier builds there."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.build.build import Build
from shared.build.cost.estimate import Estimate, estimate_build, needed_quota, region_text
from shared.build.cost.list_prices import LIST_PRICES
from shared.build.cost.price_list import PriceList, read_prices
from shared.build.events import to_json
from shared.build.plan import AskedElements, Context, OriginPlan, Plan, SourceImage
from shared.build.resources import made_in_order
from shared.context.outside import outside
from shared.context.packing import pack_context
from shared.delivery.bundle import provisioner_version
from shared.delivery.maker_bundle import maker_version
from shared.elements.packed_links import PackedFile
from shared.elements.step_documents import step_documents
from shared.errors import InputError
from shared.names import MAKER_IMAGE
from shared.planning.origins import FETCHED, plan_origin
from shared.planning.permissions import DeploymentAccounts, Grant, accounts_of, needed_grants, seen_grants
from shared.planning.plan import make_plan
from shared.planning.secret_versions import with_numbers
from shared.planning.sources import is_from_nothing, resolve_maker, resolve_source
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
    planned = [plan_in(build.spec, file.folder, client, builds, place.project, asked, listed) for build in file.builds]
    if as_json:
        print_json([each.to_json() for each in planned] if len(planned) > 1 else planned[0].to_json())
        return
    for number, each in enumerate(planned):
        say("\n" * (number > 0) + "\n".join(each.lines()))


def plan_in(
    spec: Spec,
    folder: Path,
    client: CloudClient,
    builds: Sequence[Build],
    project: str,
    asked: str,
    prices: PriceList = LIST_PRICES,
) -> PlannedThere:
    """Return what a build in a project would be. InputError for what only its deployment can plan."""
    if spec.context is not None and spec.context.startswith("gs:"):
        raise InputError(f"{spec.name}: its context is in a bucket; plan it where its folder is")
    if spec.build.project is None:
        spec = spec.model_copy(update={"build": spec.build.model_copy(update={"project": project})})
    notes: list[str] = []
    try:
        if client.secret_versions is not None:
            spec = with_numbers(spec, client.secret_versions)
    except InputError as error:
        notes.append(f"the digest is not that of the build, which looks up the newest version of a secret: {error}")
    now, earlier = client.clock.now(), [build.plan for build in builds if build.plan is not None]
    with opening.temporary_folder() as own:
        context = _context(spec, folder, own)
        source, origin = _source(spec, context, client, earlier, now)
        made = make_plan(
            spec,
            source=source,
            context=None if context is None else Context("", context.digest, context.size),
            request=asked,
            requested=now,
            provisioner_version=provisioner_version(),
            documents=_documents(spec, context, own),
            origin=origin,
        )
    if origin is not None and origin.kind in FETCHED:
        notes.append("the digest of a root that is fetched is another one each time")
    if made.image.export_to is not None:
        made = replace(made, exporter=resolve_maker(_maker_image(earlier), client.compute))
    if not made.machine.zones:
        zones = next((plan.machine.zones for plan in earlier if plan.machine.zones), ())
        made = replace(made, machine=replace(made.machine, zones=zones))
    vms = (plan.machine.service_account or "" for plan in earlier)
    known = (accounts_of(project, mail) for mail in vms)
    accounts = next((each for each in known if each is not None), DeploymentAccounts(project))
    return PlannedThere(
        made,
        estimate_build(made, builds, prices),
        client.unchanged(made) if made.rebuild == "changed" else "",
        seen_grants(needed_grants(made, accounts), builds, accounts),
        tuple(notes),
    )


def _context(spec: Spec, folder: Path, own: Path) -> Context | None:
    """Pack a context into a folder."""
    return (
        None if spec.context is None else pack_context(folder / spec.context, own / "context.tar", outside(spec.steps))
    )


def _documents(spec: Spec, context: Context | None, own: Path) -> Mapping[AskedElements, str]:
    """Return what steps of elements ask for, read from the packed context. InputError."""
    if context is None:
        return {}
    steps = (*spec.steps, *(spec.verify.steps if spec.verify else ()))
    return step_documents(steps, PackedFile(Path(context.uri)), own)


def _source(
    spec: Spec, context: Context | None, client: CloudClient, earlier: Sequence[Plan], now: float
) -> tuple[SourceImage, OriginPlan | None]:
    """Return the source, and how a build VM makes it where it is a root from nothing. InputError."""
    if not is_from_nothing(spec.source):
        return resolve_source(spec.source, client.compute), None
    maker = resolve_maker(_maker_image(earlier), client.compute)
    return plan_origin(spec, maker, context, now, maker_version())


def _maker_image(earlier: Sequence[Plan]) -> str:
    """Return the image of VMs that make roots or write files: that of the newest build that had one, or the default."""
    makers = (plan.origin.maker if plan.origin is not None else plan.exporter for plan in earlier)
    maker = next((each for each in makers if each is not None), None)
    if maker is None:
        return MAKER_IMAGE
    place = f"family/{maker.family}" if maker.family is not None else maker.name
    return f"projects/{maker.project}/global/images/{place}"


@dataclass(frozen=True)
class PlannedThere:
    """A build of a project as its request would be."""

    plan: Plan
    estimate: Estimate
    unchanged: str  # the name of the image that has this content; "": none is known
    grants: tuple[Grant, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON, with what it needs and costs beside it."""
        return {
            **to_json(self.plan),  # type: ignore[arg-type]
            "unchanged": self.unchanged or None,
            "quota": needed_quota(self.plan),
            "estimate": self.estimate.to_json(),
            "permissions": [grant.to_json() for grant in self.grants],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return the same for people."""
        made = self.plan
        machine, image = made.machine, made.image
        vm = ", ".join(filter(None, [machine.machine_type, "Spot" if machine.spot else None, machine.gpu_type]))
        quota = ", ".join(f"{name} {count}" for name, count in needed_quota(made).items())
        lines = [
            ("image", f"{image.project}/{image.name}" + (f", family {image.family}" if image.family else "")),
            ("from", _from(made)),
            ("machine", f"{vm}, {machine.disk_size_gb} GB {machine.disk_type}, in {region_text(made)}"),
            ("steps", ", ".join(f"{step.name} ({step.action})" for step in made.steps) or "none"),
            *zip(("makes", *[""] * 9), made_in_order(made), strict=False),
            ("deadline", f"{format_duration(made.timeout)} after the request, {made.attempts} attempts"),
            ("digest", made.content_digest),
            ("quota", quota or "not known"),
            ("time", self.estimate.text),
            ("cost", self.estimate.usage.cost_text if self.estimate.usage is not None else "not known, as its time"),
            *self._permissions(),
        ]
        if self.unchanged:
            lines.append(("unchanged", f"image {self.unchanged} has this content; nothing will be built"))
        lines += [("note", note) for note in self.notes]
        return [f"{name + ':' if name else '':<10} {value}" for name, value in lines]

    def _permissions(self) -> Iterator[tuple[str, str]]:
        if not self.grants:
            yield "grants", "none beyond those of the deployment"
        for number, grant in enumerate(self.grants):
            told, commands = _told(grant)
            yield "" if number else "grants", told
            yield from (("", f"  {command}") for command in commands)


def _told(grant: Grant) -> tuple[str, tuple[str, ...]]:
    """Return a grant in words, and what is left to do."""
    what = f"{grant.key}: {grant.role} on {grant.where}, to {', '.join(grant.accounts)}"
    if grant.seen:
        return f"{what}; build {grant.seen} had it", ()
    if not grant.variable:
        return f"{what}:", grant.commands
    if grant.applied:
        return f"{what}; Terraform's {grant.variable} grants it{', as do:' if grant.commands else ''}", grant.commands
    return f"{what}; Terraform's {grant.variable} has to name it, and:", grant.commands


def _from(made: Plan) -> str:
    source, origin = made.source, made.origin
    if origin is None:
        return f"{source.project}/{source.name}, {source.architecture}, {source.disk_size_gb} GB"
    maker = f"{origin.maker.project}/{origin.maker.name}"
    return f"{source.name}: a root from nothing ({origin.kind}), {source.disk_size_gb} GB, made by a VM of {maker}"
