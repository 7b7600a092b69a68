#!/bin/bash
# The OEM partition is mounted to be read alone.
set -euo pipefail
mount -o remount,rw /usr/share/oem
cp -r oem/. /usr/share/oem/
mount -o remount,ro /usr/share/oem
