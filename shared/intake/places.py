"""Fill in what a spec leaves to its deployment, and resolve the paths in it.

The files that a spec in a bucket reads lie beside it. Those that it writes lie below results/, as its result does.
"""

from __future__ import annotations

import hashlib
import posixpath
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ..build.export_formats import NO_EXPORT, refused_in_cloud
from ..build.limits import Limits, check_limits
from ..build.plan import Plan
from ..errors import InputError, NotFound
from ..names import LOCAL, SECRET_IN_ENVIRONMENT, SECRET_IN_FILE, quoted
from ..ports import Objects
from ..sbom.input import LIST_LIMIT, problems
from ..spec.document import KeyPath, Problem
from ..spec.rules import ONLY_HERE, ONLY_LOCAL
from ..submission import brought_list, is_result, kept_uri, named_digest, split_uri
from ..topology import RESULTS, SPECS
from .stored_content import store_file
from .uploads import beside_spec, refuse_hidden

INPUT: KeyPath = ("output", "sbom", "input")
TO: KeyPath = ("output", "sbom", "to")
EXPORT: KeyPath = ("output", "export", "to")
FORMATS: KeyPath = ("output", "formats")
ELSEWHERE = "is a secret of one machine; write projects/PROJECT/secrets/NAME/versions/NUMBER"
NOT_OURS = "this deployment's own bucket, where its specs, contexts and results are"
NO_ACCOUNT = "need an account that may read them, which steps then have; write build.service_account"


class Deployment(Protocol):
    """The settings that plans take from their deployment, unless the spec says otherwise."""

    @property
    def project(self) -> str:
        """The project of builds and images."""
        ...

    @property
    def bucket(self) -> str:
        """The one bucket."""
        ...

    @property
    def zones(self) -> tuple[str, ...]:
        """Zones, in the order in which they are tried."""
        ...

    @property
    def vm_service_account(self) -> str:
        """The account of build VMs."""
        ...

    @property
    def secure_boot(self) -> bool:
        """Whether all VMs are Shielded VMs with Secure Boot."""
        ...

    @property
    def maker_image(self) -> str:
        """The image of VMs that make a root from nothing, as names.IMAGE_PATH has it."""
        ...

    @property
    def limits(self) -> Limits:
        """Return the limits on specs."""
        ...


class UploadedPlaces:
    """The places of one spec. `spec_uri` is "" for an inline spec; `packed` says which files were uploaded with it.

    `keep` is for how many seconds the disk of a step that fails is wanted.
    """

    def __init__(
        self,
        deployment: Deployment,
        objects: Objects,
        spec_uri: str,
        packed: str | None = None,
        *,
        now: float,
        keep: float = 0.0,
    ) -> None:
        self._now = now
        self._keep = keep
        self._here = deployment
        self._objects = objects
        self._spec_uri = spec_uri
        self._packed = packed

    def check(self, data: Mapping[str, Any]) -> list[Problem]:
        """Return the problems of the places that a spec's values name beside the context. The values may be invalid."""
        found = []
        source = data.get("source")
        if isinstance(source, dict):
            found += [Problem(("source", key), ONLY_HERE) for key in ONLY_LOCAL if key in source]
        found += _secret_problems(data)
        output = data.get("output")
        export, wanted, target = (_text(data, path) for path in (EXPORT, INPUT, TO))
        if export is not None and not export.startswith("gs://"):
            found.append(Problem(EXPORT, f"{quoted(export)} is no object; write gs://bucket/object.tar.gz"))
        elif export is not None and export.startswith(f"gs://{self._here.bucket}/"):
            found.append(Problem(EXPORT, f"{self._here.bucket} is {NOT_OURS}; write another bucket"))
        formats = output.get("formats") if isinstance(output, Mapping) else None
        if isinstance(formats, list | tuple) and formats:
            refused = refused_in_cloud(map(str, formats)) if export is not None else NO_EXPORT
            found += [Problem(FORMATS, refused)] if refused else []
        try:
            if wanted is not None:
                found += [Problem(INPUT, text) for text in self._of_input(self.source(wanted))]
        except InputError as error:
            found.append(Problem(INPUT, str(error)))
        try:
            if target is not None:
                found += self._taken(self.target(target))
        except InputError as error:
            found.append(Problem(TO, str(error)))
        return found

    def _taken(self, uri: str) -> list[Problem]:
        """Return the problem of an object of our bucket that is there: it may be another author's."""
        bucket, name = split_uri(uri + "_" if uri.endswith("/") else uri)
        if bucket != self._here.bucket or uri.endswith("/"):
            return []
        if is_result(name):
            return [
                Problem(TO, f"{uri} is named as results of builds are; write another name, or a folder with / last")
            ]
        if self._objects.stat(uri) is None:
            return []
        return [
            Problem(TO, f"{uri} is there already; write another name, or a folder with / last for one of each image")
        ]

    def _of_input(self, uri: str) -> list[str]:
        """Return the problems of the user's list of packages."""
        found = self._objects.stat(uri)
        if found is None:
            return [f"{uri} does not exist; upload it first"]
        if found.size > LIST_LIMIT:
            return [f"{uri} has {found.size} bytes; {LIST_LIMIT >> 20} MiB is the most"]
        with tempfile.NamedTemporaryFile(prefix="goldsmith-sbom-") as file:
            try:
                self._objects.download(found, Path(file.name))
            except NotFound:
                return [f"{uri} was changed while it was read; upload the spec after it"]
            return [f"{uri}: {text}" for text in problems(Path(file.name).read_bytes())]

    def _kept_list(self, uri: str) -> str:
        """Store a list of packages by its digest, as it is now; return where. InputError."""
        found, own = self._objects.stat(uri), self._here.bucket
        if found is None or found.size > LIST_LIMIT:
            raise InputError(f"output.sbom.input: {uri} was changed while it was read; upload the spec after it")
        with tempfile.NamedTemporaryFile(prefix="goldsmith-sbom-") as file:
            self._objects.download(found, Path(file.name))
            digest = hashlib.sha256(Path(file.name).read_bytes()).hexdigest()
            bucket, name = split_uri(uri)
            if bucket == own and named_digest(name, ".json") not in ("", digest):
                raise InputError(
                    f"output.sbom.input: {uri} does not hold what its name says: its digest is {digest}; "
                    "delete it, and upload it again with goldsmith submit"
                )
            kept = kept_uri(own, digest, ".json", self._now)
            store_file(self._objects, kept, Path(file.name))
        return kept

    def source(self, place: str) -> str:
        """Return the URI of a list of packages that a spec names. InputError."""
        place = brought_list(self._packed, place) or place
        if not place.startswith("gs:"):
            bucket, name = beside_spec(self._spec_uri, place, self._here.bucket)
            return f"gs://{bucket}/{name}"
        refuse_hidden(place, self._here.bucket)
        return place

    def target(self, place: str) -> str:
        """Return the URI of an object that a spec writes. InputError for one that builds are made of, or trust."""
        own = self._here.bucket
        if place.startswith("gs:"):
            bucket, name = split_uri(place + "_" if place.endswith("/") else place)  # a folder, for a name of ours
            if bucket == own and not name.startswith(RESULTS):
                raise InputError(f"{place} is not below {RESULTS}; write it there, or to another bucket")
            return place
        spec = self._spec_uri.removeprefix(f"gs://{own}/{SPECS}") if self._spec_uri else ""
        folder = "" if "://" in spec else posixpath.dirname(spec)
        name = posixpath.normpath(posixpath.join(folder, place)) + "/" * place.endswith("/")
        if place.startswith("/") or name.split("/")[0] == "..":
            raise InputError(f"{place} leads out of gs://{own}/{RESULTS}; write a path below it")
        return f"gs://{own}/{RESULTS}{name}"

    def placed(self, plan: Plan) -> Plan:
        """Return the plan with what the spec leaves to the deployment. InputError if it exceeds the limits there."""
        here, image, machine = self._here, plan.image, plan.machine
        machine = replace(
            machine,
            project=here.project if machine.project == LOCAL else machine.project,
            zones=machine.zones or here.zones,
            service_account=machine.service_account or here.vm_service_account,
            secure_boot=machine.secure_boot or here.secure_boot,
        )
        image = replace(
            image,
            project=here.project if image.project == LOCAL else image.project,
            copies=tuple(
                replace(each, project=here.project if each.project == LOCAL else each.project) for each in image.copies
            ),
            sbom_input=None if image.sbom_input is None else self._kept_list(self.source(image.sbom_input)),
            sbom_to=None if image.sbom_to is None else self.target(image.sbom_to),
        )
        if plan.origin is not None and machine.secure_boot:
            raise InputError(_unsigned(by_spec=plan.machine.secure_boot))
        image.check_copies()
        placed = replace(plan, machine=machine, image=image, keep_disk=self._keep)
        check_limits(placed, here.limits)
        return kept_as_deployed(placed, here.limits)


def kept_as_deployed(plan: Plan, limits: Limits) -> Plan:
    """Return a plan with the times for which a deployment keeps what a failed build has made.

    A disk that may hold secrets is not kept for a retry: others in the project can read disks.
    """
    secret = any(step.secrets for step in (*plan.steps, *(plan.verify_steps or ())))
    keep, disk = min(plan.keep_disk, limits.max_keep), 0.0 if secret else limits.retry_disk_for
    return replace(plan, keep_disk=keep, retry_for=limits.retry_for, retry_disk_for=disk)


def _unsigned(*, by_spec: bool) -> str:
    """Return why a root from nothing is not built where VMs have Secure Boot."""
    if by_spec:
        return (
            "build.secure_boot: starts signed programs alone, and the boot loader of a root from nothing is not "
            "signed; leave the key out, or begin from an image"
        )
    return (
        "source: all VMs of this deployment have Secure Boot, and the boot loader of a root from nothing is not "
        "signed; begin from an image, or ask those who deploy it to change secure_boot"
    )


def _secret_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the problems of the secrets of steps. The values may be invalid."""
    verify, build = data.get("verify"), data.get("build")
    verifying = verify.get("steps") if isinstance(verify, Mapping) else None
    account = build.get("service_account") if isinstance(build, Mapping) else None
    lists: tuple[tuple[KeyPath, Any], ...] = ((("steps",), data.get("steps")), (("verify", "steps"), verifying))
    for path, steps in lists:
        for index, step in enumerate(steps if isinstance(steps, (list, tuple)) else ()):
            secrets = step.get("secrets") if isinstance(step, Mapping) else None
            if not isinstance(secrets, Mapping) or not secrets:
                continue
            if not account:
                yield Problem((*path, index, "secrets"), NO_ACCOUNT)
            for name, place in secrets.items():
                if isinstance(place, str) and place.startswith((SECRET_IN_ENVIRONMENT, SECRET_IN_FILE)):
                    yield Problem((*path, index, "secrets", name), ELSEWHERE)


def _text(data: Mapping[str, Any], path: KeyPath) -> str | None:
    value: Any = data
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None
