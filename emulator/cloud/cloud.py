"""All of Google Cloud on this machine: a project to which terraform/ was applied.

    Cloud(home) ─┬─ Google's Pub/Sub and Firestore emulators        google.py, topics.py
                 ├─ Cloud Storage, Compute Engine                   storage/, compute/
                 ├─ the functions                                   functions.py
                 └─ what calls them: pushes, events, schedules      router.py, scheduler.py

Everything listens on loopback, on ports that the kernel chooses, and ends with this process, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import secrets
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import IO, BinaryIO, Literal, Self, cast
from urllib.parse import quote

from flask import Flask

from shared.build.limits import NO_LIMITS, Limits
from shared.errors import EnvironmentFault, NotFound
from shared.host.private_folder import private_folder
from shared.json_values import to_document
from shared.names import quoted
from shared.topology import TRUSTED_KEYS, Function

from ..compute.endpoint import ComputeEndpoint
from ..compute.google_apis import ADDRESS as APIS_ADDRESS
from ..pubsub.router import Router
from ..pubsub.topics import PubSub
from ..security.kms import KmsEndpoint
from ..security.secret_manager import SecretManagerEndpoint
from ..storage.endpoint import StorageEndpoint
from ..web.http_server import HOME_OPTION, LOOPBACK, HttpServer
from ..web.iam_credentials import iam_credentials
from ..web.identity import CERTIFICATES_PATH, IAP_KEYS_PATH, TOKEN_PATH, Identity
from ..web.secret_files import made_once
from .functions import Functions
from .google import GoogleEmulators
from .monitoring import MonitoringEndpoint
from .scheduler import Scheduler

PROJECT = "goldsmith-emulator"
BUCKET = f"{PROJECT}-goldsmith"  # as terraform/ names it, and as goldsmith expects it
DEPLOYED_ZONES = ("us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f")  # the deployment's own
MAKER_IMAGE = "projects/local/global/images/family/debian-12"  # which `goldsmith images bootstrap debian-12` makes
PATIENCE = 60.0  # seconds for an answer of our own endpoints

Boot = Literal["direct", "firmware"]


IAP_AUDIENCE = "/projects/1/locations/us-central1/services/goldsmith-dashboard"
"""What Identity-Aware Proxy signs its headers for; the emulator has no proxy, but signs what one would say."""


class Cloud:
    """Everything, running from start() to close(); a context manager.

    State is below `home`, whose image catalogue is what Compute Engine's images are. `boot` is how instances start,
    `delivery` how build VMs get their files (GOLDSMITH_DELIVERY), `limits` what specs may ask for (GOLDSMITH_LIMITS),
    `maker_image` what VMs boot from that make a root from nothing (GOLDSMITH_MAKER_IMAGE),
    `webhooks` who is told of finished builds (GOLDSMITH_WEBHOOKS), `channels` where images can be promoted to
    (GOLDSMITH_CHANNELS), `people` whose addresses are known (GOLDSMITH_PEOPLE), `signing_key` the version of a key that
    signs what is stated of images, which is made where there is none (GOLDSMITH_SIGNING_KEY), `otlp_endpoint` the
    collector that traces go to (GOLDSMITH_OTLP_ENDPOINT).
    Builds, messages and instances end with it; objects and images stay.
    """

    def __init__(
        self,
        home: Path,
        *,
        project: str = PROJECT,
        bucket: str = BUCKET,
        boot: Boot = "direct",
        delivery: Literal["download", "disk"] = "download",
        limits: Limits = NO_LIMITS,
        maker_image: str = MAKER_IMAGE,
        webhooks: str = "",
        channels: str = "",
        people: str = "",
        signing_key: str = "",
        otlp_endpoint: str = "",
    ) -> None:
        self.home = home.absolute()
        self.project = project
        self.bucket = bucket
        self._scratch = self.home / "tmp"  # the functions' TMPDIR
        self._boot = boot
        self._delivery = delivery
        self._limits = limits
        self._maker_image = maker_image
        self._webhooks = webhooks
        self._channels = channels
        self._people = people
        self._signing_key = signing_key
        self._otlp_endpoint = otlp_endpoint
        self._closing = ExitStack()
        self.identity: Identity
        self.google: GoogleEmulators
        self.pubsub: PubSub
        self.storage: StorageEndpoint
        self.kms: KmsEndpoint
        self.secrets: SecretManagerEndpoint
        self.monitoring: MonitoringEndpoint
        self.compute: ComputeEndpoint
        self.functions: Functions
        self.router: Router
        self.scheduler: Scheduler

    def start(self) -> None:
        """Start everything and wait until it answers. EnvironmentFault, MissingTool; then nothing is left."""
        with ExitStack() as opened:
            self._lock(opened)
            self._start(opened)
            self._closing = opened.pop_all()

    def close(self) -> None:
        """Stop everything. Called again, it does nothing."""
        self._closing.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def environment(self, client_home: Path) -> Mapping[str, str]:
        """Return the environment for goldsmith and Google's programs; their state is below `client_home`."""
        return {
            **self.storage.client_environment(client_home, project=self.project),
            **self.google.environment(),
            **self.kms.environment,
            **self.secrets.environment,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{self.compute.url}/compute/v1/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS": f"{self._tokens_url}/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"http://{self.google.environment()['PUBSUB_EMULATOR_HOST']}/",
            "CLOUDSDK_AUTH_TOKEN_HOST": self._tokens_url + TOKEN_PATH,
            "GOLDSMITH_CERTIFICATES_URL": self._tokens_url + CERTIFICATES_PATH,
            "GOLDSMITH_COMPUTE_ENDPOINT": self.compute.url,
            "PUBSUB_PROJECT_ID": self.project,
            "NO_PROXY": LOOPBACK,
        }

    def function_environment(self, function: Function) -> Mapping[str, str]:
        """Return a function's environment: the variables that terraform/ sets, and the services' addresses."""
        key = self.account_file(self.email(function.name.replace("_", "-")))
        return {
            "GOLDSMITH_PROJECT": self.project,
            "GOLDSMITH_BUCKET": self.bucket,
            "GOLDSMITH_ZONES": ",".join(DEPLOYED_ZONES),
            "GOLDSMITH_VM_SERVICE_ACCOUNT": self.email("vm"),
            **({"GOLDSMITH_MASTER_KEY": self._master_key} if function.keyed else {}),
            **({"GOLDSMITH_WEBHOOKS": self._webhooks} if function.webhooks else {}),
            **({"GOLDSMITH_SIGNING_KEY": self._signing_key} if function.signs else {}),
            **({"GOLDSMITH_OTLP_ENDPOINT": self._otlp_endpoint} if function.spans else {}),
            **({"GOLDSMITH_IAP_AUDIENCE": IAP_AUDIENCE} if function.name == "dashboard" else {}),
            "GOLDSMITH_IAP_KEYS_URL": self._tokens_url + IAP_KEYS_PATH,
            "GOLDSMITH_DELIVERY": self._delivery,
            "GOLDSMITH_MAKER_IMAGE": self._maker_image,
            "GOLDSMITH_CHANNELS": self._channels,
            "GOLDSMITH_PEOPLE": self._people,
            "GOLDSMITH_LIMITS": json.dumps(to_document(self._limits)),
            "GOLDSMITH_VM_PUBSUB_URL": f"http://{APIS_ADDRESS}",
            "GOLDSMITH_VM_STORAGE_URL": f"http://{APIS_ADDRESS}",
            "GOLDSMITH_CERTIFICATES_URL": self._tokens_url + CERTIFICATES_PATH,
            "GOLDSMITH_COMPUTE_ENDPOINT": self.compute.url,
            "GOLDSMITH_VM_SECRETS_URL": f"http://{APIS_ADDRESS}",
            "GOLDSMITH_KMS_ENDPOINT": self.kms.url,
            "GOLDSMITH_SECRETS_ENDPOINT": self.secrets.url,
            "GOLDSMITH_MONITORING_ENDPOINT": self.monitoring.url,
            "STORAGE_EMULATOR_HOST": self.storage.url,
            "GOOGLE_APPLICATION_CREDENTIALS": str(key),
            "GOOGLE_CLOUD_PROJECT": self.project,
            "NO_GCE_CHECK": "true",
            "NO_PROXY": LOOPBACK,
            "TMPDIR": str(self._scratch),
            **self.google.environment(),
        }

    def account_file(self, email: str) -> Path:
        """Write the key of a service account of any address, with which programs act as that account."""
        uri = self._tokens_url + TOKEN_PATH
        return self.identity.service_account_file(self.home / "identity", email, token_uri=uri, project=self.project)

    def email(self, account: str) -> str:
        """Return a service account's address: `pusher`, `vm` ... as terraform/ names them."""
        domain, _, name = self.project.rpartition(":")
        return f"goldsmith-{account}@{name}{'.' * bool(domain)}{domain}.iam.gserviceaccount.com"

    def _lock(self, opened: ExitStack) -> None:
        """Hold the home, which the kernel lets go when this process ends."""
        private_folder(self.home, HOME_OPTION)
        try:
            lock = opened.enter_context((self.home / "cloud.lock").open("w"))
        except OSError as error:
            raise EnvironmentFault(f"{self.home}: {error.strerror}; give a folder that you may write to") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentFault(
                f"{self.home} is in use by another emulator; stop that one, or give another folder with --home"
            ) from None

    def _start(self, opened: ExitStack) -> None:
        """Java takes longest, and the functions need nothing of it to begin: both start beside all else."""
        logs = self.home / "logs"
        shutil.rmtree(self._scratch, ignore_errors=True)  # what functions that were killed have left
        self._scratch.mkdir()
        self.google = GoogleEmulators(logs)
        with ThreadPoolExecutor(1) as beside:
            started = beside.submit(self.google.start)
            opened.callback(self.google.close)
            try:
                self._start_endpoints(opened)
            finally:
                started.result()
        self.pubsub = PubSub(self.google.environment()["PUBSUB_EMULATOR_HOST"], self.project)
        opened.callback(self.pubsub.close)
        self.monitoring = opened.enter_context(MonitoringEndpoint(self.pubsub, identity=self.identity))
        self._start_compute(opened)
        self.functions = Functions(logs, self.function_environment)
        opened.callback(self.functions.close)
        self.functions.start()
        self.pubsub.make()
        self.router = Router(self.pubsub, self.functions.urls, lambda url: self._token("pusher", url))
        opened.callback(self.router.close)
        if self._signing_key:
            self.trust(self._signing_key)  # the router is told of each object that is written
        self.scheduler = Scheduler(self.pubsub, self.functions.urls, lambda url: self._token("scheduler", url))
        opened.callback(self.scheduler.close)
        self.functions.wait_until_ready()
        self.router.start()
        if self._signing_key:  # a write, which the router hears of
            self.trust(self._signing_key)
        self.scheduler.start()

    def _start_endpoints(self, opened: ExitStack) -> None:
        """Start what needs nothing of Google's emulators."""
        self.identity = Identity(self.home / "identity")
        tokens = Flask("tokens")
        tokens.register_blueprint(self.identity.blueprint())
        tokens.register_blueprint(iam_credentials(self.identity))
        self._tokens_url = opened.enter_context(HttpServer(tokens)).url
        key = made_once(self.home / "identity" / "master-key.hex", lambda: secrets.token_hex(32).encode())
        self._master_key = key.decode().strip()
        self.storage = opened.enter_context(
            StorageEndpoint(
                self.home / "storage",
                identity=self.identity,
                on_finalized=lambda resource: self.router.finalized(resource),
            )
        )
        self.secrets = opened.enter_context(SecretManagerEndpoint(self.home / "secrets", identity=self.identity))
        self.kms = opened.enter_context(KmsEndpoint(self.home / "kms", identity=self.identity))
        self._make_bucket()
        if self._signing_key:
            self.kms.make_version(self._signing_key)

    def trust(self, *versions: str) -> None:
        """Let the signatures of these versions of keys count, as terraform/ writes them into the bucket."""
        body = json.dumps({"keys": dict.fromkeys(versions, "")}).encode()
        name = quote(TRUSTED_KEYS, safe="")
        url = f"{self.storage.url}/upload/storage/v1/b/{quote(self.bucket, safe='')}/o?uploadType=media&name={name}"
        with _answer(urllib.request.Request(url, body, {"Content-Type": "application/json"})):  # noqa: S310
            pass

    def _start_compute(self, opened: ExitStack) -> None:
        self.compute = opened.enter_context(
            ComputeEndpoint(
                self.home,
                project=self.project,
                identity=self.identity,
                storage=self._open_object,
                storage_url=self.storage.url,
                secrets_url=self.secrets.url,
                publish=self.google.environment()["PUBSUB_EMULATOR_HOST"],
                boot=self._boot,
            )
        )

    def _token(self, account: str, audience: str) -> str:
        return self.identity.id_token(self.email(account), audience)

    def _make_bucket(self) -> None:
        body = json.dumps({"name": self.bucket}).encode()
        url = f"{self.storage.url}/storage/v1/b?project={self.project}"
        try:
            with _answer(urllib.request.Request(url, body, {"Content-Type": "application/json"})):  # noqa: S310
                pass
        except urllib.error.HTTPError as error:
            with error:
                if error.code != HTTPStatus.CONFLICT:  # made by an earlier run
                    raise EnvironmentFault(f"bucket {quoted(self.bucket)}: {error.read().decode()}") from error

    def _open_object(self, uri: str) -> BinaryIO:
        """Open gs://bucket/object, as Compute Engine does for an image's archive. NotFound."""
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        try:
            url = f"{self.storage.url}/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}?alt=media"
            return cast(BinaryIO, _answer(url))
        except urllib.error.HTTPError as error:
            with error:
                raise NotFound(f"{uri}: {error.reason}") from error


def _answer(request: str | urllib.request.Request) -> IO[bytes]:
    """Ask an endpoint of ours, and no proxy. HTTPError."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    answer: IO[bytes] = opener.open(request, timeout=PATIENCE)
    return answer
