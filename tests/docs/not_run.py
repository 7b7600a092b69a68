"""The commands of the pages that no test runs as they are written, by the reason why not.

What programs say of their options is checked for these as well; see test_placed.py.
"""

NOT_RUN: dict[str, tuple[str, ...]] = {
    "only Google Cloud, with a person's account, can do it; tests/terraform plans what Terraform makes": (
        "gcloud auth application-default login",
        "terraform -chdir=terraform/examples/basic apply -var project=PROJECT -var 'people=[\"user:me@example.org\"]'",
        "terraform -chdir=terraform/examples/basic apply -var project=PROJECT",
        "terraform -chdir=terraform/examples/basic apply -var project=PROJECT -var eventarc_trigger=true",
        "terraform -chdir=terraform/examples/basic apply -var project=PROJECT -var eventarc_trigger=true "
        "-target='module.goldsmith.google_cloudfunctions2_function.function[\"advance_build\"]' "
        "-target='module.goldsmith.google_cloudfunctions2_function.function[\"expire_builds\"]' "
        "-target='module.goldsmith.google_cloudfunctions2_function.function[\"start_build\"]' "
        "-target='module.goldsmith.google_project_iam_custom_role.builds[\"expire_builds\"]' "
        "-target='module.goldsmith.google_project_iam_custom_role.builds[\"start_build\"]' "
        "-target='module.goldsmith.google_project_iam_custom_role.images[\"expire_builds\"]' "
        "-target='module.goldsmith.google_project_iam_member.images[\"expire_builds\"]' "
        "-target='module.goldsmith.google_project_iam_custom_role.count' "
        "-target='module.goldsmith.google_project_iam_member.count' "
        "-target='module.goldsmith.google_storage_bucket_iam_member.objects[\"expire_builds upkeep/\"]' "
        "-target='module.goldsmith.google_storage_bucket_iam_member.objects[\"start_build results/\"]' "
        "-target='module.goldsmith.google_storage_bucket_iam_member.objects[\"start_build uploads/\"]' "
        "-target='module.goldsmith.google_project_iam_member.storage_agent' "
        "-target='module.goldsmith.google_project_iam_member.trigger' "
        "-target='module.goldsmith.google_service_account.trigger'",
        "terraform -chdir=terraform/examples/basic destroy -var project=PROJECT",
        "terraform -chdir=terraform/examples/basic providers lock -platform=linux_amd64 -platform=darwin_arm64",
        "gcloud compute networks subnets update default --project PROJECT --region us-central1 "
        "--enable-private-ip-google-access",
        "gcloud firestore databases delete --project PROJECT --database='(default)'",
        "gcloud firestore databases update --project PROJECT --database='(default)' --no-delete-protection",
        "gcloud secrets add-iam-policy-binding repository --project PROJECT "
        "--member serviceAccount:builder@PROJECT.iam.gserviceaccount.com --role roles/secretmanager.secretAccessor",
        "gcloud iam service-accounts create ann-approves --project my-project",
        "gcloud iam service-accounts create builder --project PROJECT",
        "gcloud beta services identity create --service=iap.googleapis.com --project=PROJECT",
        "gcloud beta run services update goldsmith-dashboard --iap --region=REGION --project=PROJECT",
        "gcloud iap web add-iam-policy-binding --resource-type=cloud-run --service=goldsmith-dashboard --region=REGION "
        "--project=PROJECT --member=group:operators@example.com --role=roles/iap.httpsResourceAccessor",
        "gcloud iam service-accounts add-iam-policy-binding ann-approves@my-project.iam.gserviceaccount.com "
        "--member user:ann@example.com --role roles/iam.serviceAccountTokenCreator --project my-project",
    ),
    "it sets this machine up, or runs the tests themselves": (
        ".ci/run",
        "make check",
        "make dist && sudo apt-get install pipx && pipx install build/dist/*.whl",
        "make quick",
        "make test",
        "goldsmith doctor --install",
        "goldsmith images bootstrap debian-12",
    ),
    "it installs packages from a mirror; tests/system/test_site.py installs some from one of its own": (
        "goldsmith build site/build.yaml",
    ),
    "it runs until Ctrl-C; tests/cloud runs all of it": ("make cloud",),
    "it installs Debian from a mirror; tests/system/test_dib.py builds by the same command": (
        "ELEMENTS_PATH=elements DIB_RELEASE=bookworm goldsmith dib -o out/my-image vm debian-minimal my-app",
    ),
    "VMs of the emulator have no door for people; tests/cloud/test_submit.py makes one by the commands beside it": (
        "gcloud compute ssh look-BUILD --project=PROJECT --zone=ZONE --tunnel-through-iap",
    ),
    "it starts a collector of OpenTelemetry, and sends it a build: tests/system/test_spans.py has one of its own": (
        "podman run --rm -d -p 127.0.0.1:4318:4318 -p 127.0.0.1:16686:16686 docker.io/jaegertracing/all-in-one",
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 goldsmith build examples/hello/build.yaml",
    ),
    "it measures for minutes, and is a part of `make bench` or `make soak`": (
        ".venv/bin/python -m benchmarks.boot --rounds 1",
        ".venv/bin/python -m benchmarks.bootstrap",
        ".venv/bin/python -m benchmarks.build --rounds 3",
        ".venv/bin/python -m benchmarks.cloud",
        ".venv/bin/python -m benchmarks.cold_start",
        ".venv/bin/python -m benchmarks.convert",
        ".venv/bin/python -m benchmarks.disk_layout --rounds 3",
        ".venv/bin/python -m benchmarks.element_scripts --home build/test-home --rounds 4",
        ".venv/bin/python -m benchmarks.elements_tree",
        ".venv/bin/python -m benchmarks.export --rounds 3",
        ".venv/bin/python -m benchmarks.formats --rounds 1",
        ".venv/bin/python -m benchmarks.from_nothing",
        ".venv/bin/python -m benchmarks.hygiene --rounds 3",
        ".venv/bin/python -m benchmarks.image_diff --rounds 3 --folder /dev/shm",
        ".venv/bin/python -m benchmarks.retire --act 200",
        ".venv/bin/python -m benchmarks.sandbox --home build/test-home --rounds 1",
        ".venv/bin/python -m benchmarks.signing",
        ".venv/bin/python -m benchmarks.start_up",
        ".venv/bin/python -m benchmarks.step_cache --rounds 1",
        ".venv/bin/python -m benchmarks.unchanged",
        ".venv/bin/python -m tests.hostile.soak 64 100",
    ),
}
