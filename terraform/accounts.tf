# Who acts: one account for each function, and one for each of their callers. None has a key.

resource "google_service_account" "function" {
  for_each = local.functions

  project      = var.project
  account_id   = "${var.prefix}-${replace(each.key, "_", "-")}"
  display_name = "Goldsmith: ${each.key}"
  description  = "Runs the function ${each.key}; docs/security.md says what it may do, and why."

  depends_on = [google_project_service.api]
}

resource "google_service_account" "vm" {
  project      = var.project
  account_id   = "${var.prefix}-vm"
  display_name = "Goldsmith: build VMs"
  description  = "Build VMs. They may publish reports, and nothing else."

  depends_on = [google_project_service.api]
}

resource "google_service_account" "pusher" {
  project      = var.project
  account_id   = "${var.prefix}-pusher"
  display_name = "Goldsmith: Pub/Sub's pushes"
  description  = "Pub/Sub calls the functions as this account."

  depends_on = [google_project_service.api]
}

resource "google_service_account" "trigger" {
  count = var.eventarc_trigger ? 1 : 0

  project      = var.project
  account_id   = "${var.prefix}-trigger"
  display_name = "Goldsmith: Eventarc's calls"
  description  = "Eventarc calls start_build as this account until an upgrade is complete."

  depends_on = [google_project_service.api]
}

resource "google_service_account" "scheduler" {
  project      = var.project
  account_id   = "${var.prefix}-scheduler"
  display_name = "Goldsmith: Cloud Scheduler's calls"
  description  = "Cloud Scheduler calls expire_builds and retire_images as this account."

  depends_on = [google_project_service.api]
}

resource "google_service_account" "builder" {
  project      = var.project
  account_id   = "${var.prefix}-builder"
  display_name = "Goldsmith: Cloud Build of the functions"
  description  = "Cloud Build builds the functions' containers as this account."

  depends_on = [google_project_service.api]
}
