# One bucket for all data of builds, and one for the functions' source, so that permission to upload a spec is not
# permission to replace code.

locals {
  # Only VMs use cidata; they are created after the request and are gone soon after the deadline. Packed contexts are also
  # used by queued builds, and reused by later requests of the same month, when a context is at most 31 days old.
  days_of_a_build = ceil(local.max_timeout / 86400)
  days_kept = {
    "uploads/"  = 30 + local.days_of_a_build
    "contexts/" = 61 + local.days_of_a_build
    "cidata/"   = 7 + local.days_of_a_build
    "results/"  = var.results_days
    "logs/"     = var.logs_days
  }
}

resource "google_storage_bucket" "bucket" {
  project                     = var.project
  name                        = local.bucket
  location                    = var.region
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false
  labels                      = local.labels

  versioning {
    enabled = false # deleted objects must be gone, since cidata holds the keys of VMs
  }

  soft_delete_policy {
    retention_duration_seconds = 0 # for the same reason
  }

  dynamic "lifecycle_rule" {
    for_each = local.days_kept
    content {
      action {
        type = "Delete"
      }
      condition {
        age            = lifecycle_rule.value
        matches_prefix = [lifecycle_rule.key]
      }
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 1
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_storage_bucket" "source" {
  project                     = var.project
  name                        = "${local.bucket}-source"
  location                    = var.region
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true # it holds only files of this checkout
  labels                      = local.labels

  depends_on = [google_project_service.api]
}

# The functions' source: only the files that run on Google Cloud.
locals {
  checkout = "${path.module}/.."
  source_files = [
    for file in sort(flatten([
      for pattern in ["main.py", "requirements.txt", "functions/**", "shared/**", "provisioner/**", "docs/*.md", "docs/how-to/*.md"] :
      tolist(fileset(local.checkout, pattern))
    ])) : file if !strcontains(file, "__pycache__") && !endswith(file, ".pyc")
  ]
}

data "archive_file" "source" {
  type             = "zip"
  output_path      = "${path.root}/.terraform/goldsmith-source.zip"
  output_file_mode = "0644"

  dynamic "source" {
    for_each = local.source_files
    content {
      filename = source.value
      content  = file("${local.checkout}/${source.value}")
    }
  }
}

resource "google_storage_bucket_object" "source" {
  bucket       = google_storage_bucket.source.name
  name         = "goldsmith-${data.archive_file.source.output_sha256}.zip" # a new name redeploys the functions
  source       = data.archive_file.source.output_path
  content_type = "application/zip"
}
