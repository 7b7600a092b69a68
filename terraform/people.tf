# Permissions of people and other pipelines: submitters request builds and follow them; operators also end builds and revoke images;
# repairers set aside documents that cannot be read. Nobody writes to the folder of another person.

locals {
  followers = setunion(var.submitters, var.operators)
  submitted = {
    for pair in setunion(
      setproduct(local.followers, concat(["specs/ write", "uploads/ add", "results/ read", "logs/ read"], length(local.trusted_keys) > 0 ? ["keys/ read"] : [])),
      setproduct(var.operators, ["retirement/ read"])
    ) :
    join(" ", pair) => { member = pair[0], prefix = split(" ", pair[1])[0], role = split(" ", pair[1])[1] }
  }
}

locals {
  folders = merge([
    for name, person in var.people : {
      for mail in person.addresses : "${name} ${mail}" => {
        member = "${endswith(lower(mail), ".gserviceaccount.com") ? "serviceAccount" : "user"}:${mail}"
        prefix = "specs/people/${name}/"
        role   = "write"
      }
    } if person.folder
  ]...)
}

resource "google_pubsub_topic_iam_member" "followers" {
  for_each = local.followers

  project = var.project
  topic   = google_pubsub_topic.topic["build-requests"].name
  role    = "roles/pubsub.publisher"
  member  = each.key
}

resource "google_project_iam_member" "followers" {
  for_each = local.followers

  project = var.project
  role    = google_project_iam_custom_role.store["read"].name
  member  = each.key

  condition {
    title       = "only-database"
    description = "Other databases of the project are none of ours."
    expression  = local.only_database
  }
}

# People's clients name this project as their quota project, which takes a permission of its own.

resource "google_project_iam_member" "uses_quota" {
  for_each = setunion(local.followers, var.repairers)

  project = var.project
  role    = "roles/serviceusage.serviceUsageConsumer"
  member  = each.key
}

resource "google_project_iam_custom_role" "console" {
  project     = var.project
  role_id     = "${local.role_prefix}_console"
  title       = "Goldsmith: consoles"
  description = "Reads the consoles of build VMs while they run."
  permissions = ["compute.instances.getSerialPortOutput"]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "console" {
  for_each = local.followers

  project = var.project
  role    = google_project_iam_custom_role.console.name
  member  = each.key

  condition {
    title       = "only-builds"
    description = "VMs, disks and images are those of builds."
    expression  = local.only_builds
  }
}

resource "google_pubsub_topic_iam_member" "operators" {
  for_each = var.operators

  project = var.project
  topic   = google_pubsub_topic.topic["build-events"].name # a request to end a build is an event
  role    = "roles/pubsub.publisher"
  member  = each.key
}

resource "google_pubsub_topic_iam_member" "revokes" {
  for_each = var.operators

  project = var.project
  topic   = google_pubsub_topic.topic["image-requests"].name
  role    = "roles/pubsub.publisher"
  member  = each.key
}

resource "google_pubsub_subscription_iam_member" "operators" {
  for_each = var.operators

  project      = var.project
  subscription = google_pubsub_subscription.dead_letters.name
  role         = "roles/pubsub.subscriber"
  member       = each.key
}

resource "google_project_iam_member" "repairers" {
  for_each = var.repairers

  project = var.project
  role    = google_project_iam_custom_role.store["forget"].name
  member  = each.key

  condition {
    title       = "only-database"
    description = "Other databases of the project are none of ours."
    expression  = local.only_database
  }
}
