#!/bin/bash
set -euo pipefail
useradd --system --home-dir /srv/web --create-home web
echo "release ${RELEASE}" >/srv/web/release
