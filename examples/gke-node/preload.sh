#!/bin/bash
# The kubelet looks for images in containerd's namespace k8s.io.
set -euo pipefail
systemctl start containerd
for container in ${CONTAINERS}; do
  ctr --namespace k8s.io images pull "${container}"
done
ctr --namespace k8s.io images list --quiet
