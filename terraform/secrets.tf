# The master key, which every VM's key is derived from. It is made once, by this machine's random generator, and goes to
# Secret Manager by write-only arguments: it is in no state, no plan and no output. A new number rotates it.

ephemeral "random_password" "master_key" {
  length  = 64
  special = false
}

resource "google_secret_manager_secret" "master_key" {
  project   = var.project
  secret_id = "${var.prefix}-master-key"
  labels    = local.labels

  replication {
    auto {}
  }

  depends_on = [google_project_service.api]
}

resource "google_secret_manager_secret_version" "master_key" {
  secret                 = google_secret_manager_secret.master_key.id
  secret_data_wo         = sha256(ephemeral.random_password.master_key.result) # hex, as the functions read it
  secret_data_wo_version = var.master_key_version

  lifecycle {
    create_before_destroy = true # functions go over to the new one first
  }
}
