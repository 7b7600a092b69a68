"""The commands of the pages, run as they are written there on Google Cloud as the emulator plays it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from emulator.cloud.cloud import Cloud
from shared.build.build import Outcome
from shared.build.orders import Order
from shared.clock import SystemClock
from shared.engine.messages import order_message
from shared.images.catalogue import Catalogue
from tests.cloud.conftest import SIGNING_KEY
from tests.cloud.person import Person
from tests.cloud.test_promotions import publish_image, wait_for, wait_until
from tests.docs.pages import shown_files
from tests.docs.reader import Reader
from tests.docs.workflows import run_workflow
from tests.project.source_tree import ROOT

pytestmark = pytest.mark.vm
SUCCEEDED, UNCHANGED = Outcome.SUCCEEDED, Outcome.UNCHANGED

SPEC = """\
name: page
source: {project: local, family: debian-12}
context: preload.sh
parameters: {release: "1"}
steps:
- {name: greet, action: run-script, inputs: {script: preload.sh, env: {GREETING: hello}}}
output: {family: page}
rebuild: changed
"""


@pytest.fixture
def reader(person: Person) -> Reader:
    """A reader with the examples, and with the spec SPEC.yaml, whose content does not change."""
    shutil.copytree(ROOT / "examples", person.folder / "examples")
    example = person.folder / "examples" / "hello" / "build.yaml"
    text = example.read_text().replace("name: hello", "name: page-hello").replace("family: hello", "family: page-hello")
    example.write_text(f"{text}rebuild: changed\n")
    (example.parent / "preload.sh").chmod(0o644)  # gsutil keeps no modes
    shutil.copy2(ROOT / "examples" / "hello" / "preload.sh", person.folder)
    (person.folder / "preload.sh").chmod(0o644)
    (person.folder / "SPEC.yaml").write_text(SPEC)
    names = {"specs/hello": "specs/pages", "results/hello": "results/pages", "specs/web": "specs/pages-web"}
    return Reader(person.folder, person.environment, {"PROJECT": person.project, "P": person.project, **names})


def test_builds_of_a_project(reader: Reader, person: Person) -> None:
    """The first build of the spec makes an image; those that are asked for in other ways are unchanged then."""
    reader.types("gsutil cp examples/hello/preload.sh gs://goldsmith-emulator-goldsmith/specs/hello/")
    reader.types("gsutil cp examples/hello/build.yaml gs://goldsmith-emulator-goldsmith/specs/hello/")
    reader.types("goldsmith submit SPEC.yaml --project PROJECT", says="newest of family page")
    assert person.result("pages/build-")["outcome"] == "succeeded"
    reader.types(
        "goldsmith submit examples/hello/build.yaml --project goldsmith-emulator", says="unchanged: image page-hello-"
    )
    reader.types("gcloud compute images list --no-standard-images", says="page-hello-")
    reader.types("gsutil cat 'gs://goldsmith-emulator-goldsmith/results/hello/*'", says='"outcome"')
    reader.types("goldsmith builds list --project PROJECT", says="page-")
    reader.stands_for["NAME"] = next(
        str(build.image.name) for build in person.builds() if build.name == "page" and build.image
    )
    reader.types("goldsmith images check NAME --project PROJECT --provenance", says="may be used")
    reader.types("goldsmith images check NAME --project P --provenance", says="may be used")
    key = {"projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/1": SIGNING_KEY}
    reader.stands_for.update(key)
    reader.types(
        "goldsmith images check NAME --project P "
        "--key projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/1",
        says="may be used",
    )
    reader.run(f"gcloud kms keys versions get-public-key {SIGNING_KEY} --output-file=key.pem")
    reader.types("goldsmith images check NAME --project P --key key.pem", says="may be used")

    reader.run(f"gsutil cp preload.sh gs://{person.bucket}/specs/")
    reader.types("gsutil cp SPEC.yaml gs://PROJECT-goldsmith/specs/")
    assert person.result("SPEC-")["outcome"] == "unchanged"
    reader.run(f"gsutil cp SPEC.yaml gs://{person.bucket}/specs/pages.yaml")
    assert person.result("pages-")["outcome"] == "unchanged"
    before = len(person.builds())
    reader.types(
        "gcloud pubsub topics publish build-requests --project PROJECT "
        """--message '{"spec": "gs://PROJECT-goldsmith/specs/SPEC.yaml"}'"""
    )
    reader.types(
        "gcloud pubsub topics publish build-requests --project PROJECT "
        """--message '{"spec": "gs://PROJECT-goldsmith/specs/hello.yaml", "parameters": {"release": "2"}}'"""
    )
    wait_until(lambda: len(person.builds()) == before + 2, "two builds were asked for")
    wait_until(lambda: all(build.finished for build in person.builds() if build.name == "page"), "they do not end")
    built = next(build for build in person.builds() if build.name == "page")
    lost = order_message(Order(built.id, built.cleaning, "clean_up", built.attempt), built)
    reader.types(
        "gcloud pubsub topics publish build-orders --project PROJECT --message DATA "
        "--attribute order=clean_up,build_id=BUILD",
        DATA=shlex.quote(lost.data.decode()),
        BUILD=built.id,
    )
    assert {build.outcome for build in person.builds() if build.name == "page"} == {SUCCEEDED, UNCHANGED}


def test_images_of_a_project(reader: Reader, person: Person, cloud: Cloud) -> None:
    """Of images that were built before, as far as commands go: what they bring about is in test_promotions.py."""
    catalogue = Catalogue(cloud.home, SystemClock())
    for name in ("page-1", "page-2"):
        publish_image(catalogue, person, name, person.folder / "disk.raw", family="pages")
        reader.stands_for["web-20261120"] = name
        reader.types(
            "gcloud pubsub topics publish image-requests --project PROJECT "
            """--message '{"promote": {"image": "web-20261120", "to": "prod"}}'"""
        )
        wait_for(catalogue, "pages-prod", f"{name}-prod")
    reader.stands_for.update({"my-project": person.project, "NAME": "page-2"})
    reader.types(
        "gcloud pubsub topics publish image-requests --project PROJECT "
        """--message '{"distribute": {"image": "web-20261120", "share": ["group:team@example.com"], """
        """"copies": [{"project": "their-project"}]}}'"""
    )
    reader.types("goldsmith images approvals --project my-project")
    reader.types("goldsmith images approvals --project PROJECT")
    reader.types(
        "gcloud pubsub topics publish image-requests --project PROJECT "
        """--message '{"revoke": {"image": "web-20261120", "reason": "its sshd takes any password"}}'"""
    )
    wait_for(catalogue, "pages-prod", "page-1-prod")


def test_a_published_image_of_the_how_to_pages(reader: Reader, person: Person, cloud: Cloud) -> None:
    catalogue = Catalogue(cloud.home, SystemClock())
    publish_image(catalogue, person, "how-web-1", person.folder / "disk.raw", family="how-web")
    reader.stands_for["web-1"] = "how-web-1"
    reader.types(
        "gcloud pubsub topics publish image-requests --project PROJECT "
        """--message '{"promote": {"image": "web-1", "to": "prod"}}'"""
    )
    wait_for(catalogue, "how-web-prod", "how-web-1-prod")
    for name in ("shop-1", "shop-2"):
        publish_image(catalogue, person, f"how-{name}", person.folder / "disk.raw", family="how-shop")
    reader.stands_for["shop-2"] = "how-shop-2"
    reader.follows("docs/how-to/roll-back.md", "On Google Cloud")
    wait_for(catalogue, "how-shop", "how-shop-1")


def test_the_first_image_on_google_cloud(reader: Reader) -> None:
    files = reader.folder / "first" / "files"
    files.mkdir(parents=True)
    (files / "welcome.sh").write_text('echo "This machine belongs to $OWNER." > /etc/motd\n')
    terraform = frozenset({"terraform -chdir=terraform/examples/basic init"})  # tests/terraform/test_page_commands.py
    told = reader.follows("docs/tutorial.md", "The first image on Google Cloud", left_out=terraform)
    assert "newest of family first" in told


def test_pipelines(reader: Reader, person: Person) -> None:
    """One image is built; those who ask for it in other ways get the same."""
    reader.follows("docs/pipelines.md", "Goldsmith in pipelines")
    said = [reader.follows("docs/pipelines.md", "A shell")]
    name = (reader.folder / "image-name").read_text().strip()
    assert name.startswith(f"{person.project}/image-"), name
    pull = (
        "gcloud pubsub subscriptions pull pipeline --auto-ack --limit 10 --project PROJECT --format json "
        "| jq -r '.[].message.data | @base64d | fromjson | .id + \" \" + .outcome'"
    )

    def is_told() -> bool:
        said.append(reader.run(reader.writes(pull, {})))
        return bool(re.search(r"^image-\w{12} unchanged$", "".join(said), re.MULTILINE))

    wait_until(is_told, "no message of a finished build")
    for workflow in (".github/workflows/image.yaml", "cloudbuild-image.yaml"):
        (reader.folder / "image-name").unlink(missing_ok=True)
        shown = next(each.text for each in shown_files(Path("docs/pipelines.md")) if each.path == workflow)
        ran = run_workflow(shown, reader, person.project)
        assert name in ran, ran


def test_a_workflow_is_uploaded(reader: Reader, person: Person) -> None:
    """Of an image that is not there: its result says so, and no VM is needed."""
    for name in ("cloudbuild.yaml", "preload.sh"):
        text = (ROOT / "examples" / "cos-customizer" / name).read_text()
        (person.folder / name).write_text(text.replace("-image-family=debian-12", "-image-family=debian-11"))
    reader.types("gsutil cp preload.sh cloudbuild.yaml gs://PROJECT-goldsmith/specs/NAME/", NAME="page-cos")
    told = person.result("page-cos/")
    assert "no active image" in told["reason"], told
    shutil.rmtree(person.folder / "examples")
    (person.folder / "SPEC.yaml").unlink()  # a spec that is uploaded is built
    reader.types("gsutil -m rsync -P -r -x cloudbuild.yaml . gs://PROJECT-goldsmith/specs/web/")
    reader.types("gsutil cp cloudbuild.yaml gs://PROJECT-goldsmith/specs/web/")
    assert "no active image" in person.result("pages-web/")["reason"]


def test_pages_about_images_that_are_not_there(reader: Reader, person: Person) -> None:
    """COS, drivers and Packer's template are asked for as the pages say; the project has no such image."""
    reader.run("gcloud storage buckets create gs://nvidia-drivers-us-public")
    reader.run("gcloud storage cp SPEC.yaml gs://nvidia-drivers-us-public/tesla/535.183.01/driver.run")
    submitted = {f"goldsmith submit {spec} --project PROJECT" for spec in ("cos/build.yaml", "gpu/build.yaml")}
    said = reader.follows("docs/how-to/cos.md", "Customize Container-Optimized OS", fails=frozenset(submitted))
    assert "source.milestone: project cos-cloud has no x86_64 image on milestone 117" in said
    said = reader.follows("docs/how-to/gpu.md", fails=frozenset(submitted))
    assert "535.183.01\n" in said
    assert "source.family: project cos-cloud has no active image in family cos-117-lts" in said
    del reader.stands_for["specs/web"]  # in the bucket, and here a folder
    reader.stands_for.update({"my-project": person.project, "debian-12": "debian-11"})
    submit = frozenset({"goldsmith submit packer/specs/web.yaml --project PROJECT"})
    assert "no active image" in reader.follows("docs/how-to/from-packer.md", fails=submit)


def test_the_care_of_a_deployment(reader: Reader, person: Person, cloud: Cloud) -> None:
    """Lost messages, the dashboard by curl, and an empty bucket."""
    key = {"CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE": str(cloud.account_file(cloud.email("ann")))}
    curl = Reader(reader.folder, {**reader.environment, **key})
    curl.stands_for["$(terraform -chdir=terraform/examples/basic output -raw dashboard)"] = cloud.functions.urls[
        "dashboard"
    ]
    curl.types(
        'curl -H "Authorization: Bearer $(gcloud auth print-identity-token)" '
        "$(terraform -chdir=terraform/examples/basic output -raw dashboard)/builds",
        says='"builds"',
    )
    curl.types(
        'curl -H "Authorization: Bearer $(gcloud auth print-identity-token)" '
        "$(terraform -chdir=terraform/examples/basic output -raw dashboard)/api/builds",
        says='"builds"',
    )
    reader.run("gcloud pubsub topics publish dead-letters --message looked-at")  # a pull waits for one
    dead = reader.types("gcloud pubsub subscriptions pull dead-letters --project PROJECT --limit 10 --format json")
    held = " ".join(f"--ack-ids={each['ackId']}" for each in json.loads(dead))
    reader.run(f"gcloud pubsub subscriptions ack dead-letters {held}")
    reader.run("gcloud pubsub topics publish dead-letters --message taken-away")
    reader.types("gcloud pubsub subscriptions pull dead-letters --project PROJECT --limit 10 --auto-ack")
    reader.types(
        "gcloud pubsub subscriptions seek specs --project PROJECT "
        "--time=$(date -u -d '2 hours ago' +%Y-%m-%dT%H:%M:%SZ)"
    )
    reader.run(
        "gcloud storage buckets create gs://removed-goldsmith && gsutil cp SPEC.yaml gs://removed-goldsmith/a/b/"
    )
    reader.types("gsutil -m rm 'gs://PROJECT-goldsmith/**'", PROJECT="removed")
    assert reader.run("gsutil ls gs://removed-goldsmith") == ""


def test_secrets_and_keys(reader: Reader, person: Person) -> None:
    (person.folder / "webhooks.json").write_text("{}")
    reader.types("gcloud secrets create webhooks --data-file=webhooks.json --project PROJECT")
    (person.folder / "token.txt").write_text("correct-horse")
    reader.follows("docs/how-to/secrets.md", "On Google Cloud")
    reader.types("gcloud kms keyrings create images --location=us-central1 --project PROJECT")
    reader.types(
        "gcloud kms keys create statements --keyring=images --location=us-central1 --purpose=asymmetric-signing "
        "--default-algorithm=ec-sign-p256-sha256 --project PROJECT"
    )
