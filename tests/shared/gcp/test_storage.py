"""The bucket in Cloud Storage: the contract, against the emulator's endpoint and with real tokens, and its own part.

The endpoint makes things go wrong on purpose: answers that are lost, connections that are cut, permissions that are
missing.
"""

from __future__ import annotations

import gc
import gzip
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from google.auth.credentials import AnonymousCredentials, Credentials, Scoped
from google.cloud import storage

from emulator.storage.endpoint import StorageEndpoint
from emulator.web.http_server import HttpServer
from emulator.web.identity import Identity
from emulator.web.processes import free_port
from shared.errors import AlreadyExists, Conflict, EnvironmentFault, NotFound, Permanent, Transient
from shared.gcp.credentials import signer
from shared.gcp.settings import Settings
from shared.gcp.storage import GoogleBucket
from shared.ports import StoredObject
from tests.contracts.bucket_contract import BucketContract, Uri

EMAIL = "functions@my-project.iam.gserviceaccount.com"
WIDE = "https://www.googleapis.com/auth/cloud-platform"  # what IAM wants of who signs
REFUSED = (400, 401, 403)
BUCKETS = ("my-bucket", "other-bucket")
LETTERS = bytes(range(256)) * 1024  # 256 KiB


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory, served: StorageEndpoint, identity: Identity
) -> Iterator[Settings]:
    tokens = Flask("tokens")
    tokens.register_blueprint(identity.blueprint())
    folder = tmp_path_factory.mktemp("keys")
    with HttpServer(tokens) as server:
        key = identity.service_account_file(folder, EMAIL, token_uri=f"{server.url}/token", project="my-project")
        yield Settings(
            project="my-project",
            bucket="my-bucket",
            zones=("us-central1-a",),
            master_key=b"5" * 32,
            vm_service_account="vm@my-project.iam.gserviceaccount.com",
            vm_storage_url=served.url,
            storage_endpoint=served.url,
            credentials_file=str(key),
        )


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return Identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, identity: Identity) -> Iterator[StorageEndpoint]:
    with StorageEndpoint(tmp_path_factory.mktemp("objects"), identity=identity) as served:
        for name in BUCKETS:
            make_bucket(served, name)
        yield served


@pytest.fixture
def endpoint(served: StorageEndpoint, settings: Settings) -> Iterator[StorageEndpoint]:
    """The endpoint with empty buckets, in which all goes well until a test says otherwise."""
    yield served
    served.faults.clear()
    cleaner = GoogleBucket(settings)
    for name in BUCKETS:
        for found in cleaner.listing(f"gs://{name}/"):
            cleaner.delete(found.uri)


@pytest.fixture
def bucket(settings: Settings, endpoint: StorageEndpoint) -> GoogleBucket:
    return GoogleBucket(settings, patience=20.0)


@pytest.fixture
def uri() -> Uri:
    return lambda name: f"gs://my-bucket/{name}"


def make_bucket(endpoint: StorageEndpoint, name: str) -> None:
    request = urllib.request.Request(
        f"{endpoint.url}/storage/v1/b?project=my-project",
        data=f'{{"name": "{name}"}}'.encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


class TestGoogleBucket(BucketContract):
    pass


class Unread(GoogleBucket):
    """Reads no object."""

    def parts(self, found: StoredObject) -> Iterator[bytes]:
        raise AssertionError(f"{found.uri} is read, of {found.size} bytes")


def test_a_conflict_with_a_larger_object_is_told_without_reading_it(
    bucket: GoogleBucket, settings: Settings, uri: Uri
) -> None:
    bucket.write(uri("a"), b"12")
    with pytest.raises(Conflict, match="written by another process"):
        Unread(settings, patience=20.0).write_if_generation(uri("a"), b"1", "")


@pytest.mark.parametrize(
    "uri",
    ["", "object", "/tmp/object", "file:///tmp/object", "gs://", "gs://my-bucket", "gs://My Bucket/a", "gs://b/\ud83d"],
)
def test_what_is_no_object_of_cloud_storage_is_refused(bucket: GoogleBucket, uri: str) -> None:
    for act in (bucket.read, bucket.delete, lambda uri: bucket.write(uri, b"1"), bucket.stat):
        with pytest.raises(Permanent, match="write gs://bucket/object"):
            act(uri)


def test_a_bucket_is_no_object(bucket: GoogleBucket) -> None:
    with pytest.raises(Permanent, match="gs://my-bucket/ names no object"):
        bucket.read("gs://my-bucket/")


def test_a_write_to_an_absent_bucket_is_permanent(bucket: GoogleBucket) -> None:
    with pytest.raises(Permanent, match=r"gs://absent-bucket/a: .*make the bucket"):
        bucket.write("gs://absent-bucket/a", b"1")
    with pytest.raises(NotFound, match="gs://absent-bucket/a"):
        bucket.read("gs://absent-bucket/a")
    with pytest.raises(NotFound, match="gs://absent-bucket/"):
        list(bucket.listing("gs://absent-bucket/"))


def test_what_is_stored_compressed_is_read_as_it_is(bucket: GoogleBucket, uri: Uri, tmp_path: Path) -> None:
    """Or its size would not be that of the limit, nor its digest that of the upload."""
    stored = gzip.compress(LETTERS)
    blob = bucket._blob(uri("a"))
    blob.content_encoding = "gzip"
    blob.upload_from_string(stored)
    assert bucket.read(uri("a")) == stored
    found = bucket.stat(uri("a"))
    assert found is not None
    bucket.download(found, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == stored


class TestObjects:
    def test_an_upload_is_found_with_its_generation_and_metadata(self, bucket: GoogleBucket, uri: Uri) -> None:
        generation = bucket.upload(uri("specs/hello.yaml"), b"name: hello", {"goldsmith-context": "gs://b/c"})
        found = bucket.stat(uri("specs/hello.yaml"))
        assert found is not None
        assert (found.uri, found.generation, found.size) == (uri("specs/hello.yaml"), generation, 11)
        assert found.metadata == {"goldsmith-context": "gs://b/c"}
        assert bucket.stat(uri("specs/hello.yaml"), generation) == found
        assert bucket.stat(uri("specs/hello.yaml"), "1") is None
        assert bucket.stat(uri("specs")) is None

    def test_a_listing_is_of_a_prefix_in_order(self, bucket: GoogleBucket, uri: Uri) -> None:
        for name in ("b/2", "b/10", "a", "b2", "b/ü"):
            bucket.write(uri(name), name.encode())
        found = list(bucket.listing(uri("b/")))
        assert [each.uri for each in found] == [uri("b/10"), uri("b/2"), uri("b/ü")]
        assert [each.size for each in found] == [4, 3, 4]
        assert len(list(bucket.listing("gs://my-bucket/"))) == 5
        assert list(bucket.listing(uri("c"))) == []
        assert bucket.stat(found[0].uri) == found[0]

    def test_the_generation_that_was_found_is_downloaded(self, bucket: GoogleBucket, uri: Uri, tmp_path: Path) -> None:
        bucket.write(uri("a"), LETTERS)
        bucket.write(uri("empty"), b"")
        for name, data in (("a", LETTERS), ("empty", b"")):
            found = bucket.stat(uri(name))
            assert found is not None
            bucket.download(found, tmp_path / name)
            assert (tmp_path / name).read_bytes() == data
            bucket.write(uri(name), b"changed meanwhile")
            with pytest.raises(NotFound):
                bucket.download(found, tmp_path / f"{name} again")

    def test_a_file_is_written_once(self, bucket: GoogleBucket, uri: Uri, tmp_path: Path) -> None:
        for text in ("first", "other"):
            (tmp_path / text).write_text(text)
        for _again in range(2):
            bucket.write_once(uri("once"), tmp_path / "first")
        with pytest.raises(AlreadyExists, match="gs://my-bucket/once: is there with other content"):
            bucket.write_once(uri("once"), tmp_path / "other")
        assert bucket.read(uri("once")) == b"first"

    def test_the_generation_that_was_found_is_copied_once(self, bucket: GoogleBucket, uri: Uri) -> None:
        bucket.write(uri("from"), b"first")
        found = bucket.stat(uri("from"))
        assert found is not None
        bucket.copy_once(found, uri("to"))
        assert bucket.read(uri("to")) == b"first"
        bucket.write(uri("from"), b"exchanged")
        with pytest.raises(NotFound, match="gs://my-bucket/from: was replaced or deleted while it was read"):
            bucket.copy_once(found, uri("other"))
        changed = bucket.stat(uri("from"))
        assert changed is not None
        bucket.copy_once(changed, uri("to"))
        assert bucket.read(uri("to")) == b"first"

    def test_a_large_file_is_written_and_read(self, bucket: GoogleBucket, uri: Uri, tmp_path: Path) -> None:
        """Beyond 8 MiB an upload takes several requests."""
        path = tmp_path / "large"
        path.write_bytes(LETTERS * 40)
        bucket.write_once(uri("large.tar.gz"), path)
        assert bucket.read(uri("large.tar.gz")) == path.read_bytes()


class TestPublish:
    def test_an_answer_that_was_lost_is_no_other_object(
        self, bucket: GoogleBucket, uri: Uri, endpoint: StorageEndpoint
    ) -> None:
        bucket.write(uri("staged"), LETTERS)
        endpoint.faults.lose_answer(matching="POST .*/rewriteTo/")
        bucket.publish(uri("staged"), uri("final"))
        assert bucket.read(uri("final")) == LETTERS
        assert bucket.stat(uri("staged")) is None

    def test_a_delivery_cut_off_before_the_deletion_is_taken_up(
        self, bucket: GoogleBucket, uri: Uri, endpoint: StorageEndpoint
    ) -> None:
        bucket.write(uri("staged"), LETTERS)
        endpoint.faults.deny("storage.objects.delete")
        with pytest.raises(Permanent, match=r"permission storage\.objects\.delete is missing"):
            bucket.publish(uri("staged"), uri("final"))
        endpoint.faults.clear()
        bucket.publish(uri("staged"), uri("final"))
        assert bucket.read(uri("final")) == LETTERS
        assert bucket.stat(uri("staged")) is None

    def test_no_object_but_the_copied_one_is_deleted(
        self, bucket: GoogleBucket, uri: Uri, endpoint: StorageEndpoint
    ) -> None:
        generation = bucket.upload(uri("staged"), b"ours", {})
        endpoint.faults.answer(412, matching=f"DELETE .*ifGenerationMatch={generation}")
        bucket.publish(uri("staged"), uri("final"))
        assert bucket.read(uri("staged")) == b"ours"

    def test_another_object_of_the_same_length_is_another(self, bucket: GoogleBucket, uri: Uri) -> None:
        bucket.write(uri("staged"), b"ours")
        bucket.write(uri("final"), b"hers")
        with pytest.raises(AlreadyExists, match="gs://my-bucket/final"):
            bucket.publish(uri("staged"), uri("final"))
        assert bucket.read(uri("staged")) == b"ours"

    def test_it_goes_from_one_bucket_to_another(self, bucket: GoogleBucket, uri: Uri) -> None:
        bucket.write(uri("staged"), LETTERS)
        bucket.publish(uri("staged"), "gs://other-bucket/final")
        assert bucket.read("gs://other-bucket/final") == LETTERS
        assert bucket.stat(uri("staged")) is None


class TestSignedUrl:
    def test_it_reads_without_credentials(self, bucket: GoogleBucket, uri: Uri) -> None:
        bucket.write(uri("cidata/of a ü~machine.tar"), LETTERS)
        with urllib.request.urlopen(bucket.signed_url(uri("cidata/of a ü~machine.tar"), 60), timeout=10) as answer:
            assert answer.read() == LETTERS

    def test_it_opens_one_object_and_not_for_ever(self, bucket: GoogleBucket, uri: Uri) -> None:
        bucket.write(uri("one"), b"1")
        bucket.write(uri("two"), b"2")
        url = bucket.signed_url(uri("one"), 60)
        assert status(url) == 200
        assert status(url.replace("/one?", "/two?")) in REFUSED
        assert status(url.split("?")[0]) in REFUSED
        short, end = bucket.signed_url(uri("one"), 1), time.monotonic() + 10
        while status(short) not in REFUSED:
            assert time.monotonic() < end
            time.sleep(0.1)

    def test_it_has_the_address_that_vms_know(self, settings: Settings) -> None:
        bucket = GoogleBucket(Settings(**{**vars(settings), "vm_storage_url": "http://169.254.169.253"}))
        assert bucket.signed_url("gs://my-bucket/a", 60).startswith("http://169.254.169.253/my-bucket/a?X-Goog-Alg")

    def test_who_cannot_sign_is_told(self) -> None:
        with pytest.raises(EnvironmentFault, match="gs://b/o: only a service account can sign"):
            signer("gs://b/o", AnonymousCredentials())

    def test_iam_signs_for_an_account_without_a_key(self) -> None:
        """As on Google Cloud, where the address is known once the metadata server has been asked."""
        credentials = MetadataCredentials()
        assert signer("gs://b/o", credentials) == {"service_account_email": EMAIL, "access_token": f"for {WIDE}"}
        assert credentials.token is None  # the storage client keeps its own, narrower one


class MetadataCredentials(Scoped, Credentials):
    """What google-auth gives inside a function: no key, and no address before the first refresh.

    Its token is good for the scopes that were asked for, at first those of google-cloud-storage.
    """

    service_account_email = "default"

    def __init__(self, scopes: Sequence[str] = storage.Client.SCOPE) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # google-auth's own
        self._scopes = scopes

    @property
    def requires_scopes(self) -> bool:
        return False

    def with_scopes(self, scopes: Sequence[str], default_scopes: object = None) -> MetadataCredentials:
        return MetadataCredentials(scopes)

    def refresh(self, request: object) -> None:
        self.token = f"for {' '.join(self.scopes or ())}"
        self.service_account_email = EMAIL


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
class TestFaults:
    @pytest.fixture(autouse=True)
    def _sockets(self) -> Iterator[None]:
        """The client forgets the connections of downloads that failed; they are closed, and told, when collected."""
        yield
        gc.collect()

    @pytest.mark.parametrize("status", [408, 429, 500, 503])
    def test_what_passes_is_waited_for(
        self, bucket: GoogleBucket, uri: Uri, endpoint: StorageEndpoint, status: int
    ) -> None:
        endpoint.faults.answer(status, times=2, matching="upload")
        bucket.write(uri("a"), LETTERS)
        endpoint.faults.answer(status, times=2, matching="alt=media")
        assert bucket.read(uri("a")) == LETTERS

    def test_broken_connections_are_made_anew(self, bucket: GoogleBucket, uri: Uri, endpoint: StorageEndpoint) -> None:
        endpoint.faults.break_connection(matching="upload", after_bytes=1000)
        bucket.write(uri("a"), LETTERS)
        endpoint.faults.lose_answer(matching="DELETE")
        bucket.delete(uri("a"))
        assert bucket.stat(uri("a")) is None

    def test_a_conditional_write_whose_answer_is_lost_is_no_conflict(
        self, bucket: GoogleBucket, uri: Uri, endpoint: StorageEndpoint
    ) -> None:
        endpoint.faults.lose_answer(matching="upload")
        made = bucket.write_if_generation(uri("a"), b"1", "")
        endpoint.faults.lose_answer(matching="upload")
        bucket.write_if_generation(uri("a"), b"2", made)
        assert bucket.read(uri("a")) == b"2"

    def test_what_does_not_pass_is_transient(self, settings: Settings, uri: Uri, endpoint: StorageEndpoint) -> None:
        endpoint.faults.answer(503, times=1000)
        began = time.monotonic()
        with pytest.raises(Transient, match=r"gs://my-bucket/a: .*tried again"):
            GoogleBucket(settings, patience=0.5).read(uri("a"))
        assert time.monotonic() - began < 15

    def test_a_server_that_is_not_there_is_transient(self, settings: Settings, uri: Uri) -> None:
        nowhere = Settings(**{**vars(settings), "storage_endpoint": f"http://127.0.0.1:{free_port()}"})
        began = time.monotonic()
        with pytest.raises(Transient, match=r"gs://my-bucket/a: Google cannot be reached"):
            GoogleBucket(nowhere, patience=0.5).read(uri("a"))
        assert time.monotonic() - began < 15

    @pytest.mark.parametrize(
        ("permission", "act"),
        [("get", "read"), ("create", "write"), ("delete", "delete"), ("list", "listing")],
    )
    def test_a_missing_permission_is_named(
        self, bucket: GoogleBucket, uri: Uri, endpoint: StorageEndpoint, permission: str, act: str
    ) -> None:
        bucket.write(uri("a"), b"1")
        endpoint.faults.deny(f"storage.objects.{permission}")
        acts: Mapping[str, Callable[[], object]] = {
            "read": lambda: bucket.read(uri("a")),
            "write": lambda: bucket.write(uri("a"), b"2"),
            "delete": lambda: bucket.delete(uri("a")),
            "listing": lambda: list(bucket.listing(uri("a"))),
        }
        with pytest.raises(Permanent, match=f"permission storage.objects.{permission} is missing"):
            acts[act]()


def test_a_session_for_a_vm_writes_one_object_that_is_not_there(settings: Settings) -> None:
    seen = "http://127.0.0.1"  # the name of the host as VMs know it
    bucket = GoogleBucket(replace(settings, vm_storage_url=seen))
    uri = f"gs://{BUCKETS[0]}/disk.tar.gz"
    session = bucket.upload_session(uri)
    assert session.startswith(f"{seen}/upload/storage/v1/b/{BUCKETS[0]}/o?")
    bucket.write(uri, b"of another")
    with pytest.raises(Conflict, match="is there already"):
        bucket.upload_session(uri)
    with pytest.raises(Permanent, match="make the bucket"):
        bucket.upload_session("gs://no-bucket-of-ours/disk.tar.gz")
