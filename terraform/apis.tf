# APIs that the project needs, and the names that the other files derive theirs from.

locals {
  bucket = coalesce(var.bucket, "${replace(var.project, "/[:.]/", "-")}-${var.prefix}") # example.com:project has characters that names of buckets may not have
  labels = merge(var.labels, { goldsmith = "system" })

  to_cloud_trace = can(regex("^https://telemetry\\.([a-z0-9-]+\\.rep\\.)?googleapis\\.com(:443)?$", var.otlp_endpoint))
}

resource "google_project_service" "api" {
  for_each = toset(concat(var.eventarc_trigger ? ["eventarc.googleapis.com"] : [], length(local.trusted_keys) > 0 ? ["cloudkms.googleapis.com"] : [], var.dashboard_iap ? ["iap.googleapis.com"] : [], local.to_cloud_trace ? ["cloudtrace.googleapis.com", "telemetry.googleapis.com"] : [], [
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudfunctions.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "cloudscheduler.googleapis.com",
    "compute.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
  ]))

  project            = var.project
  service            = each.key
  disable_on_destroy = false # others in the project may use them
}
