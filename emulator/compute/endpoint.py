"""Compute Engine's endpoint, all of it together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from flask import Flask

from shared.clock import SystemClock
from shared.host.private_folder import private_folder
from shared.host.scratch import scratch_folder
from shared.images.catalogue import Catalogue
from shared.machines.machines import Machines
from shared.machines.metadata_server import Route
from shared.machines.qemu import ADDRESS as METADATA_ADDRESS
from shared.ports import Message

from ..web.http_server import HOME_OPTION, HttpServer
from ..web.identity import Identity, InvalidToken
from .disks import Disks
from .google_apis import ADDRESS as APIS_ADDRESS
from .google_apis import GoogleApis, Publish
from .image_records import ImageRecords, ImageSet, ImageSets
from .images import Images, Storage
from .instances import Instances
from .machines import Instance, Runner
from .metadata import Metadata
from .methods import methods
from .places import ZONES, Places
from .rest.contract import Contract
from .rest.faults import Faults
from .rest.links import Links
from .rest.operations import Operations
from .rest.refusals import Refusal
from .routes import BASE, Router
from .templates import Templates


class ComputeEndpoint:
    """Compute Engine on a port of loopback; use it as a context manager, or close it.

    The images are those of the catalogue below `home`, in whatever project is asked for; one that
    is made here is of its project alone. Instances and disks live as
    long as the endpoint. `storage` opens gs://BUCKET/OBJECT for reading, `storage_url` is where signed URLs lead to,
    `secrets_url` where Secret Manager is, `publish` takes what instances publish: a callable, or HOST:PORT of Pub/Sub's
    emulator. Instances of `project` may publish to its topic build-reports. `boot` says how instances start from now
    on: direct (the image's own kernel, and a small guest agent of ours) or firmware (boot loader and cloud-init);
    `boots` overrides it by an instance's name.
    """

    def __init__(
        self,
        home: Path,
        *,
        project: str,
        zones: Sequence[str] = ZONES,
        identity: Identity,
        storage: Storage,
        storage_url: str = "",
        secrets_url: str = "",
        publish: Publish,
        port: int = 0,
        boot: str = "direct",
    ) -> None:
        self.boot = boot
        self.boots: dict[str, str] = {}
        self.faults = Faults()
        self._project, self._identity = project, identity
        self._publish, self._storage_url, self._secrets_url = publish, storage_url, secrets_url
        links = Links()
        with ExitStack() as stack:
            application = self._application(home, zones, links, storage, stack)
            self._server = stack.enter_context(HttpServer(application, port=port))
            self.url, self.port = self._server.url, self._server.port
            self._closing = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more requests and end all machines."""
        self._closing.close()

    @property
    def environment(self) -> dict[str, str]:
        """What gcloud and our functions need to find in theirs to come here."""
        return {
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": self.url + BASE,
            "GOLDSMITH_COMPUTE_ENDPOINT": self.url,
        }

    def preempt(self, name: str) -> None:
        """Take an instance's machine away, as Compute Engine does with a Spot VM. KeyError when there is none."""
        self._instances.preempt(name)

    def exhaust(self, zone: str) -> None:
        """Let a zone have no room for more instances: ZONE_RESOURCE_POOL_EXHAUSTED."""
        self.faults.exhaust(zone)

    def quota(self, name: str) -> None:
        """Let new instances go beyond a quota, such as CPUS: QUOTA_EXCEEDED."""
        self.faults.quota(name)

    def deny(self, permission: str) -> None:
        """Refuse what needs a permission, such as compute.images.create."""
        self.faults.deny(permission)

    def constrain(self, policy: str) -> None:
        """Put an organization policy into force, such as compute.requireShieldedVm."""
        self.faults.constrain(policy)

    def provide_key(self, name: str) -> None:
        """Let there be a key of Cloud KMS, projects/P/locations/L/keyRings/R/cryptoKeys/K; there is no other."""
        self.faults.provide_key(name)

    def fail_next(self, pattern: str, status: int, times: int = 1, reason: str = "") -> None:
        """Answer requests with an error whose `METHOD /path` has the pattern in it, so many times."""
        self.faults.fail_next(pattern, status, times, reason)

    def lose_answer(self, pattern: str, times: int = 1) -> None:
        """Do what such requests ask, and cut the connection instead of answering."""
        self.faults.lose_answer(pattern, times)

    def cut_off(self) -> None:
        """Cut instances that start from now on off from Google's other services."""
        self.faults.cut_off()

    def _application(self, home: Path, zones: Sequence[str], links: Links, storage: Storage, stack: ExitStack) -> Flask:
        """Put the parts together; `stack` closes them."""
        private_folder(home, HOME_OPTION)
        state = home / "compute"
        state.mkdir(parents=True, exist_ok=True)
        folder = stack.enter_context(scratch_folder(state)).path
        catalogue = Catalogue(home, SystemClock())
        operations, places = Operations(links), Places(zones, links)
        shown = ImageSet(catalogue, ImageRecords(catalogue, state / "images", links))
        images = Images(
            ImageSets(shown, state / "projects", links),
            links,
            operations,
            storage,
            lambda path: disks.find(path),
            self.faults,
        )
        machines = Machines(home, _ignore)
        disks = Disks(folder, links, zones, operations, images, machines.grow_disk, self.faults)
        self._instances = Instances(
            folder, links, zones, operations, disks, Runner(machines, self._services), self.faults, self._boot_of
        )
        for close in (operations.close, self._instances.close, machines.close):  # the last one first
            stack.callback(close)
        templates = Templates(links, operations, zones)
        table = methods(images, disks, self._instances, templates, operations, places, links)
        return Router(table, Contract(), operations, places, self.faults, self._authorize).application()

    def _boot_of(self, name: str) -> str:
        return self.boots.get(name, self.boot)

    def _services(self, instance: Instance) -> Mapping[str, Sequence[Route]]:
        """Return the routes that an instance's guest reaches."""
        metadata = Metadata(instance, self._identity)
        services = {METADATA_ADDRESS: metadata.routes()}
        if not self.faults.is_cut_off:
            tokens, secrets_url = metadata.tokens, self._secrets_url
            apis = GoogleApis(self._publish, self._storage_url, self._project, tokens, secrets_url=secrets_url)
            services[APIS_ADDRESS] = apis.routes()
        return services

    def _authorize(self, token: str) -> None:
        try:
            self._identity.verify_access_token(token)
        except InvalidToken as error:
            message = "Request had invalid authentication credentials. Expected OAuth 2 access token."
            raise Refusal(401, "authError", message) from error


def _ignore(message: Message) -> None:
    """Machines of the endpoint have services of their own, and nothing is published by any other way."""
    raise AssertionError(f"a message came by no service: {message}")
