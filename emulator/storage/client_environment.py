"""What gsutil, `gcloud storage` and Google's clients need to find in the environment, to talk to the emulator alone.

Nothing of the person's own set-up is read or written, which HOME still leads to: configuration, state and caches are
below a folder of the emulator's, and credentials are not asked for.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from .endpoint import StorageEndpoint

_BOTO = """\
[Boto]
is_secure = True
https_validate_certificates = True

[Credentials]
gs_host = {host}
gs_port = {port}
gs_json_host = {host}
gs_json_port = {port}

[GSUtil]
prefer_api = json
json_api_version = v1
default_project_id = {project}
state_dir = {state}
software_update_check_period = 0
"""


def client_environment(endpoint: StorageEndpoint, home: Path, *, project: str) -> dict[str, str]:
    """Write the clients' configuration below `home`, and give the variables to set for them, on top of others."""
    state = home / "gsutil"
    configuration = home / "gcloud"
    for folder in (state, configuration):
        folder.mkdir(parents=True, exist_ok=True)
    boto = home / "boto"
    tls = urlsplit(endpoint.tls_url)
    boto.write_text(_BOTO.format(host=tls.hostname, port=tls.port, project=project, state=state), encoding="utf-8")
    return {
        "BOTO_CONFIG": str(boto),
        "CLOUDSDK_CONFIG": str(configuration),
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{endpoint.url}/storage/v1/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": str(endpoint.ca_file),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_CORE_PROJECT": project,
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "GCE_METADATA_ROOT": urlsplit(endpoint.url).netloc,  # gcloud looks whether it is on a VM, and is told: no
        "GOOGLE_CLOUD_PROJECT": project,
        "NO_GCE_CHECK": "true",  # and so does google-auth
        "STORAGE_EMULATOR_HOST": endpoint.url,
    }
