#!/bin/bash
set -euo pipefail
useradd --system --home-dir /srv/app --shell /usr/sbin/nologin app
