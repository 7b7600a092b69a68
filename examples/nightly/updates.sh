#!/bin/bash
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get --yes --option Dpkg::Options::=--force-confold dist-upgrade
apt-get --yes autoremove --purge
