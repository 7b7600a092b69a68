"""The list of NVIDIA's drivers, asked of the emulator's Cloud Storage, and plans that are held to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from emulator.web.http_server import HttpServer
from shared.errors import InputError, Permanent, Transient
from shared.gpu_drivers import BUCKET, GOOGLE, check_drivers, storage_of, valid_drivers
from tests.world.driver_bucket import VERSIONS, driver_storage, installing
from tests.world.values import plan


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with driver_storage(tmp_path_factory.mktemp("storage")) as url:
        yield url


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_the_versions_are_those_of_the_bucket_however_many_pages_it_takes(storage: str, page: int) -> None:
    """install-gpu -get-valid-drivers: the versions below tesla/ in the public bucket, and 390.46."""
    assert valid_drivers(storage, page=page) == VERSIONS


@pytest.mark.parametrize("version", ["450.51.06", "390.46", "NVIDIA-Linux-x86_64-1.2.3.run"])
def test_a_driver_that_is_there_or_in_the_context_is_good(storage: str, version: str) -> None:
    """install-gpu -version: a driver version, or the name of an installer, which deps_dir brings."""
    check_drivers(installing(plan(), version), storage)


def test_an_unknown_driver_is_an_error_that_lists_the_valid_ones(storage: str) -> None:
    """install-gpu (rule): an unknown version is an error that lists the valid ones."""
    with pytest.raises(InputError) as caught:
        check_drivers(installing(plan(), "450.51.07"), storage)
    assert str(caught.value) == (
        "step 'gpu': inputs.version: there is no driver 450.51.07; write one of 390.46, 450.51.06, 450.119.04, "
        "535.104.05, or the name of an installer in deps_dir"
    )


def test_the_bucket_is_not_asked_where_no_driver_is_named() -> None:
    for planned in (plan(), installing(plan(), "NVIDIA-Linux-x86_64-1.2.3.run")):
        check_drivers(planned, "http://127.0.0.1:1")


def test_a_storage_that_is_not_there_may_be_asked_again() -> None:
    with pytest.raises(Transient, match=r"Cloud Storage cannot be asked: .*refused"):
        check_drivers(installing(plan(), "450.51.06"), "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ("no JSON", 200, "cannot be asked"),
        ("[]", 200, "gives no list"),
        ("{}", 503, "503"),
        ("[" * 99999, 200, "cannot be asked"),
        (" " * (9 << 20), 200, "gives no list"),
        ('{"nextPageToken": "x"}', 200, "does not end"),
        ("{}", 429, "429"),
    ],
)
def test_an_answer_that_is_none_may_be_asked_for_again(body: str, status: int, text: str) -> None:
    application = Flask("odd")
    application.add_url_rule("/<path:path>", "any", lambda path: (body, status))
    with HttpServer(application) as server, pytest.raises(Transient, match=text):
        check_drivers(installing(plan(), "450.51.06"), server.url)


def test_a_storage_that_refuses_is_not_asked_again(storage: str) -> None:
    with pytest.raises(Permanent, match=f"bucket {BUCKET}: Cloud Storage answers 40"):
        valid_drivers(f"{storage}/nowhere")


@pytest.mark.parametrize(
    ("value", "url"),
    [("", GOOGLE), ("http://127.0.0.1:8/", "http://127.0.0.1:8"), ("127.0.0.1:8", "http://127.0.0.1:8")],
)
def test_an_emulator_is_asked_instead(value: str, url: str) -> None:
    assert storage_of({"STORAGE_EMULATOR_HOST": value}) == url
