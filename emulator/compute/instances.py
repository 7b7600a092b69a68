"""Instances, from their insertion to their deletion.

PROVISIONING ─► STAGING ─► RUNNING ─► STOPPING ─► TERMINATED ─start─► STAGING
                              └─ the guest powers off, is preempted or has run too long ─┘
"""

from __future__ import annotations

import threading
from collections.abc import Callable, MutableSequence, Sequence
from pathlib import Path

from .disk import Disk
from .disks import Disks
from .instance_body import attached_disk, check_processor, instance_document, metadata, run_seconds
from .machines import Instance, Runner, serial_output
from .rest.calls import Call, relabelled, timestamp
from .rest.faults import Faults
from .rest.links import Links, last
from .rest.listing import aggregated, list_document
from .rest.operations import SYSTEM, Operations
from .rest.refusals import Document, Refusal, already_exists, failing, in_use, invalid, not_found

_SYSTEMS_CALL = "instances"
HYPERDISK = "hyperdisk-"  # how the names of their types begin
_LOOK = 3600.0  # seconds between two looks at a machine that may run for ever


class Instances:
    """The instances of all projects. `boot` says how new ones start: direct or firmware."""

    def __init__(
        self,
        folder: Path,
        links: Links,
        zones: Sequence[str],
        operations: Operations,
        disks: Disks,
        runner: Runner,
        faults: Faults,
        boot: Callable[[str], str],
    ) -> None:
        self._folder = folder
        self._links = links
        self._zones = zones
        self._operations = operations
        self._disks = disks
        self._runner = runner
        self._faults = faults
        self._boot = boot
        self._instances: dict[str, Instance] = {}
        self._followers: list[threading.Thread] = []

    def close(self) -> None:
        """Wait for the ends of all machines, which have been stopped."""
        for follower in self._followers:
            follower.join()

    def get(self, call: Call) -> Document:
        """Return an instance."""
        return self._named(call.path).document

    def list(self, call: Call) -> Document:
        """List a zone's instances."""
        here = self._below(f"{call.parent}/instances/")
        return list_document("compute#instance", self._links.url(call.path), here, call.query, call.path)

    def aggregated(self, call: Call) -> Document:
        """List the instances of all zones."""
        link = self._links.url(f"projects/{call.project}/aggregated/instances")
        here = self._below(f"projects/{call.project}/zones/")
        return aggregated("compute#instance", link, here, call.query, "instances", self._zones)

    def insert(self, call: Call) -> Document:
        """Make an instance, with the disks that it brings, and start it."""
        document = instance_document(call, self._links)
        path = f"{call.path}/{document['name']}"
        if path in self._instances:
            raise already_exists(path)
        self._faults.check_policies(call.body, call.project)
        new: list[Disk] = []
        try:
            disks = [self._disk(entry, call, new) for entry in _checked(call.body.get("disks", []))]
            document["disks"] = [
                attached_disk(entry, disk, index, self._links)
                for index, (entry, disk) in enumerate(zip(call.body["disks"], disks, strict=True))
            ]
            check_processor(document)
        except Refusal:
            for disk in new:
                self._disks.remove(disk)
            raise
        instance = Instance(path, document, disks, self._folder / document["id"], self._boot(document["name"]))
        instance.down.set()
        self._instances[path] = instance
        for disk in disks:
            disk.users.append(path)
        return self._operations.begin(call, "insert", path, document["id"], lambda: self._make(call, instance, new))

    def delete(self, call: Call) -> Document:
        """Delete an instance, and those of its disks that go with it."""
        instance = self._named(call.path)
        return self._begin(call, "delete", instance, lambda: self._delete(instance))

    def stop(self, call: Call) -> Document:
        """Stop an instance; it stays, and so do its disks."""
        instance = self._named(call.path)
        return self._begin(call, "stop", instance, lambda: self._stop(instance))

    def start(self, call: Call) -> Document:
        """Start an instance that was stopped; one that runs is fine."""
        instance = self._named(call.path)

        def work() -> None:
            self._faults.check_room(call.parent)
            with instance.turn, failing():
                if self._is_there(instance) and instance.down.is_set():
                    self._run(instance)

        return self._begin(call, "start", instance, work)

    def set_labels(self, call: Call) -> Document:
        """Replace an instance's labels."""
        instance = self._named(call.path)
        document = relabelled(instance.document, call.body)
        labels = {key: document[key] for key in ("labels", "labelFingerprint") if key in document}
        return self._begin(call, "setLabels", instance, lambda: instance.update(**{"labels": {}, **labels}))

    def set_metadata(self, call: Call) -> Document:
        """Replace an instance's metadata; its guest sees that at once."""
        instance = self._named(call.path)
        if call.body.get("fingerprint") != instance.document["metadata"]["fingerprint"]:
            raise Refusal(412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.")
        new = metadata(call.body)
        return self._begin(call, "setMetadata", instance, lambda: instance.update(metadata=new))

    def attach_disk(self, call: Call) -> Document:
        """Attach a disk to an instance, which sees it at once. While it runs, disks to be read alone.

        Of Hyperdisks in their usual access mode, one machine has each, and is refused to attach it in another mode.
        """
        path = call.path.removesuffix("/attachDisk")
        instance, entry = self._named(path), {"boot": False, **call.body}
        if not entry.get("source"):
            raise invalid("resource.source", "", "A disk that is attached must be there already.")
        mode = entry.get("mode", "READ_WRITE")
        disk = self._disk(entry, Call(call.project, call.scope, "instances", instance.document["name"]), [])
        hyper = last(disk.document["type"]).startswith(HYPERDISK)
        if hyper and mode == "READ_ONLY":
            raise invalid("resource.mode", mode, "The access mode of the disk is READ_WRITE_SINGLE.")
        if entry["boot"] or not (hyper or mode == "READ_ONLY" or instance.down.is_set()):
            raise invalid("resource.mode", mode, "This Compute Engine attaches data to be read.")
        attached = attached_disk(entry, disk, len(instance.disks), self._links)
        if attached["deviceName"] in [each["deviceName"] for each in instance.document["disks"]]:
            raise invalid("resource.deviceName", attached["deviceName"], "is in use by this instance.")
        if disk.is_being_attached:
            raise Refusal(400, "resourceNotReady", f"The resource '{disk.path}' is not ready")
        disk.is_being_attached = True

        def work() -> None:
            try:
                with instance.turn, failing():
                    if not instance.down.is_set():
                        self._runner.attach(instance, disk, attached["deviceName"])
                        disk.running = instance.path
                    disk.update(lastAttachTimestamp=timestamp())
                    disk.users.append(instance.path)
                    instance.disks = [*instance.disks, disk]
                    instance.update(disks=[*instance.document["disks"], attached])
            finally:
                disk.is_being_attached = False

        return self._begin(call, "attachDisk", instance, work)

    def serial_port(self, call: Call) -> Document:
        """Return what an instance has written to a serial port."""
        path = call.path.removesuffix("/serialPort")
        instance = self._named(path)
        port, start = call.query.get("port", "1"), call.query.get("start", "0")
        if port not in ("1", "2", "3", "4"):
            raise invalid("port", port, "Must be greater than or equal to 1 and less than or equal to 4.")
        if not start.removeprefix("-").isdecimal() or len(start) > 18:
            raise invalid("start", start, "Must be a number.")
        text, begin, end = serial_output(instance, int(port), int(start))
        return {
            "kind": "compute#serialPortOutput",
            "selfLink": self._links.url(f"{path}/serialPort"),
            "contents": text,
            "start": str(begin),
            "next": str(end),
        }

    def preempt(self, name: str) -> None:
        """Take an instance's machine away, as Compute Engine does with a Spot VM. KeyError when there is none."""
        found = {instance.document["name"]: instance for instance in self._instances.values()}
        instance = found[name]
        self._note(instance, "preempted", "Instance was preempted.")
        if instance.document["scheduling"].get("instanceTerminationAction") == "DELETE":
            self._delete(instance)
        else:
            self._stop(instance)

    def _make(self, call: Call, instance: Instance, new: Sequence[Disk]) -> None:
        """Make the disks and start the machine; when that fails, nothing is left."""
        with instance.turn:
            try:
                with failing():
                    self._faults.check_room(call.parent)
                    for disk in new:
                        self._disks.make(disk)
                    self._run(instance)
            except BaseException:
                self._remove(instance)
                for disk in new:
                    self._disks.remove(disk)
                raise

    def _run(self, instance: Instance) -> None:
        now = timestamp()
        instance.update(status="STAGING", lastStartTimestamp=now)
        instance.asked = False
        instance.down.clear()
        for disk in instance.disks:
            disk.running = instance.path
            disk.update(lastAttachTimestamp=now)
        try:
            self._runner.start(instance)
        except BaseException:
            self._set_down(instance)
            raise
        instance.update(status="RUNNING")
        follower = threading.Thread(
            target=self._follow, args=(instance,), daemon=True, name=f"follow-{instance.machine}"
        )
        self._followers.append(follower)
        follower.start()

    def _follow(self, instance: Instance) -> None:
        """Wait for the machine's end, and bring it about when it has run for as long as it may."""
        seconds = run_seconds(instance.document)
        if seconds is not None and not self._runner.wait(instance, seconds):
            kind = str(instance.document["scheduling"]["instanceTerminationAction"]).lower()
            work = self._delete if kind == "delete" else self._stop
            self._operations.begin(
                _systems_call(instance), kind, instance.path, instance.document["id"], lambda: work(instance), SYSTEM
            )
        while not self._runner.wait(instance, _LOOK):
            pass
        if not instance.asked:
            self._note_end(instance)
        self._set_down(instance)

    def _note_end(self, instance: Instance) -> None:
        """Note an end that no request asked for: the guest's own, or QEMU's."""
        how, detail = self._runner.end(instance)
        kind, message = ("guestTerminate", "Instance terminated by guest OS shutdown.")
        if how != "powered-off":
            kind, message = "hostError", f"Instance terminated by Compute Engine: {detail}"
        self._note(instance, kind, message)

    def _note(self, instance: Instance, kind: str, message: str) -> None:
        kind = f"compute.instances.{kind}"
        self._operations.note(_systems_call(instance), kind, instance.path, instance.document["id"], message)

    def _set_down(self, instance: Instance) -> None:
        for disk in instance.disks:
            disk.running = ""
        instance.update(status="TERMINATED", lastStopTimestamp=timestamp())
        instance.down.set()

    def _stop(self, instance: Instance) -> None:
        with instance.turn:
            if not instance.down.is_set():
                instance.asked = True
                instance.update(status="STOPPING")
                self._runner.stop(instance)
                instance.down.wait()

    def _delete(self, instance: Instance) -> None:
        with instance.turn:
            self._stop(instance)
            if not self._is_there(instance):  # another thread deleted it first
                return
            self._remove(instance)
            for entry, disk in zip(instance.document["disks"], instance.disks, strict=True):
                if entry["autoDelete"]:
                    self._disks.remove(disk)

    def _is_there(self, instance: Instance) -> bool:
        return self._instances.get(instance.path) is instance

    def _remove(self, instance: Instance) -> None:
        self._instances.pop(instance.path, None)
        self._runner.remove(instance)
        for disk in instance.disks:
            if instance.path in disk.users:
                disk.users.remove(instance.path)

    def _begin(self, call: Call, kind: str, instance: Instance, work: Callable[[], None]) -> Document:
        return self._operations.begin(call, kind, instance.path, instance.document["id"], work)

    def _disk(self, entry: Document, call: Call, new: MutableSequence[Disk]) -> Disk:
        """Return the disk of an entry of `disks`; those that are to be made are added to `new`. Raises Refusal."""
        if "source" in entry:
            disk = self._disks.attached(entry["source"], call)
            shared = entry.get("mode") == "READ_ONLY" and not disk.running
            if disk.users and not shared:
                raise in_use(disk.path, disk.users[0])
            if disk.document["status"] != "READY":
                raise Refusal(400, "resourceNotReady", f"The resource '{disk.path}' is not ready")
            return disk
        if entry.get("mode", "READ_WRITE") != "READ_WRITE":
            why = "A disk that is made with the instance must be attached for writing."
            raise invalid("resource.disks.mode", entry["mode"], why)
        given = entry.get("initializeParams", {})
        body = {key: given[key] for key in ("sourceImage", "labels", "description") if key in given}
        body["name"] = given.get("diskName") or call.body["name"] + ("" if entry.get("boot") else f"-{len(new)}")
        if key := entry.get("diskEncryptionKey"):
            body["diskEncryptionKey"] = key
        if size := given.get("diskSizeGb") or entry.get("diskSizeGb"):
            body["sizeGb"] = size
        elif entry.get("type") == "SCRATCH":
            body["sizeGb"] = "375"  # of every local SSD
        disk = self._disks.begin(call, body | {"type": given.get("diskType", "pd-standard")})
        new.append(disk)
        return disk

    def _named(self, path: str) -> Instance:
        found = self._instances.get(path)
        if found is None:
            raise not_found(path)
        return found

    def _below(self, prefix: str) -> Sequence[Document]:
        return [one.document for path, one in [*self._instances.items()] if path.startswith(prefix)]


def _checked(entries: Sequence[Document]) -> Sequence[Document]:
    if [bool(entry.get("boot")) for entry in entries].count(True) != 1:
        raise invalid("resource.disks", "", "Exactly one boot disk must be specified.")
    return entries


def _systems_call(instance: Instance) -> Call:
    """What Compute Engine does with an instance by itself."""
    scope = "/".join(instance.path.split("/")[2:4])
    return Call(instance.project, scope, _SYSTEMS_CALL, instance.document["name"])
