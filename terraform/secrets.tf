# The master key, from which every VM's key is derived. Terraform generates it once and passes it to Secret Manager in
# write-only arguments, so it is in no state, plan or output. A higher `master_key_version` rotates it.

locals {
  secret_locations = var.secret_locations == null ? [var.region] : var.secret_locations
}

# The webhooks, with their secrets, are a secret that the deployer makes: Terraform knows its name alone.

locals {
  webhooks_secret = [
    for path in compact([var.webhooks_secret]) : { project = split("/", path)[1], secret = split("/", path)[3] }
  ]
}

ephemeral "random_password" "master_key" {
  length  = 64
  special = false
}

resource "google_secret_manager_secret" "master_key" {
  project   = var.project
  secret_id = "${var.prefix}-master-key"
  labels    = local.labels

  # The policy gcp.resourceLocations refuses a secret with automatic replication.
  replication {
    dynamic "auto" {
      for_each = length(local.secret_locations) == 0 ? [true] : []
      content {}
    }
    dynamic "user_managed" {
      for_each = length(local.secret_locations) > 0 ? [true] : []
      content {
        dynamic "replicas" {
          for_each = local.secret_locations
          content {
            location = replicas.value
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [replication] # moving a secret replaces it, which would change the key during builds
  }

  depends_on = [google_project_service.api]
}

resource "google_secret_manager_secret_version" "master_key" {
  secret                 = google_secret_manager_secret.master_key.id
  secret_data_wo         = sha256(ephemeral.random_password.master_key.result) # hex, as the functions read it
  secret_data_wo_version = var.master_key_version

  lifecycle {
    create_before_destroy = true # functions switch to the new version before the old one is gone
  }
}
