#!/bin/bash
# Docker keeps its images below /var/lib/docker, which is on the disk that becomes the image.
set -euo pipefail
systemctl start docker
docker pull "${CONTAINER}"
docker image inspect --format '{{.RepoDigests}}' "${CONTAINER}"
