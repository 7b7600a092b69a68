"""Lock files of providers, made with `terraform providers lock`, name the versions that the module pins."""

from __future__ import annotations

import hcl2
import pytest

from tests.terraform.configuration import MODULE, plain, read_configuration

REGISTRY = "registry.terraform.io/"
LOCK = """
provider "registry.terraform.io/hashicorp/%s" {
  version     = "%s"
  constraints = "%s"
  hashes      = ["h1:dGhpcyBpcyBub3QgYSBwcm92aWRlcg==", "zh:0123456789abcdef"]
}
"""


def pinned() -> dict[str, str]:
    """Return the version of each provider that the module asks for, by the provider's source."""
    required = read_configuration().one("terraform").body["required_providers"][0]
    return {found["source"]: found["version"].removeprefix("= ") for found in required.values()}


def locked(text: str) -> dict[str, str]:
    """Return the version of each provider in a lock file. AssertionError for one without checksums."""
    versions = {}
    for entry in plain(hcl2.loads(text)).get("provider", ()):
        for source, body in entry.items():
            assert body.get("hashes"), f"{source} has no checksums"
            versions[source.removeprefix(REGISTRY)] = body["version"]
    return versions


def lock_of(versions: dict[str, str]) -> str:
    """Write a lock file as Terraform does."""
    return "".join(LOCK % (source.removeprefix("hashicorp/"), v, v) for source, v in versions.items())


def test_providers_are_pinned_exactly() -> None:
    assert set(pinned()) == {"hashicorp/google", "hashicorp/archive", "hashicorp/random", "hashicorp/time"}
    assert all(part.isdigit() for version in pinned().values() for part in version.split("."))


def test_lock_files_name_the_pinned_versions() -> None:
    found = {str(place): locked(place.read_text("utf-8")) for place in MODULE.rglob(".terraform.lock.hcl")}
    assert found == dict.fromkeys(found, pinned()), "run `terraform providers lock` again, as docs/deployment.md says"


def test_a_lock_of_the_pinned_versions_is_told_from_others() -> None:
    assert locked(lock_of(pinned())) == pinned()
    assert locked(lock_of({**pinned(), "hashicorp/google": "6.49.0"})) != pinned()
    assert locked(lock_of({"hashicorp/google": pinned()["hashicorp/google"]})) != pinned()
    assert locked(lock_of({**pinned(), "hashicorp/null": "3.2.4"})) != pinned()


def test_a_lock_without_checksums_is_no_lock() -> None:
    with pytest.raises(AssertionError, match="hashicorp/google has no checksums"):
        locked('provider "registry.terraform.io/hashicorp/google" {\n  version = "6.50.0"\n}\n')
