# Permission to call the functions, and what Google's own services need to deliver messages to them.

resource "google_cloud_run_v2_service_iam_member" "pusher" {
  for_each = toset([for subscription in local.subscriptions : subscription.function])

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  member   = google_service_account.pusher.member
}

resource "google_cloud_run_v2_service_iam_member" "trigger" {
  for_each = local.triggers

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  member   = google_service_account.trigger[0].member
}

resource "google_cloud_run_v2_service_iam_member" "scheduler" {
  for_each = toset([for schedule in local.schedules : schedule.function])

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  member   = google_service_account.scheduler.member
}

resource "google_cloud_run_v2_service_iam_member" "dashboard" {
  for_each = var.dashboard_invokers

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function["dashboard"].name
  role     = "roles/run.invoker"
  member   = each.key
}

# Identity-Aware Proxy calls the dashboard in its own name, and says in a signed header who the person is.

resource "google_cloud_run_v2_service_iam_member" "proxy" {
  for_each = toset(var.dashboard_iap ? ["dashboard"] : [])

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  member   = local.iap_agent
}

# Pub/Sub's agent signs the tokens of pushes, and moves a message from its subscription to the dead letters.

resource "google_service_account_iam_member" "pubsub_agent" {
  service_account_id = google_service_account.pusher.name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = local.pubsub_agent

  depends_on = [google_pubsub_topic.topic] # Google creates the agent when Pub/Sub is first used
}

resource "google_pubsub_topic_iam_member" "dead_letters" {
  project = var.project
  topic   = google_pubsub_topic.topic["dead-letters"].name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "dead_letters" {
  for_each = google_pubsub_subscription.push

  project      = var.project
  subscription = each.value.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

# Cloud Storage's agent publishes uploads to one topic, and to no other topic of the project.

data "google_storage_project_service_account" "agent" {
  project = var.project

  depends_on = [google_project_service.api]
}

resource "google_pubsub_topic_iam_member" "storage_agent" {
  for_each = local.notifications

  project = var.project
  topic   = google_pubsub_topic.topic[each.key].name
  role    = "roles/pubsub.publisher"
  member  = local.storage_agent

  depends_on = [data.google_storage_project_service_account.agent] # reading this data source creates the agent
}

# Eventarc, during an upgrade.

resource "google_project_iam_member" "storage_agent" {
  count = var.eventarc_trigger ? 1 : 0

  project = var.project # Eventarc makes the topic, and its name is not known before that
  role    = "roles/pubsub.publisher"
  member  = local.storage_agent

  depends_on = [data.google_storage_project_service_account.agent] # reading this data source creates the agent
}

resource "google_project_iam_member" "trigger" {
  count = var.eventarc_trigger ? 1 : 0

  project = var.project
  role    = "roles/eventarc.eventReceiver"
  member  = google_service_account.trigger[0].member
}

# Cloud Build builds the functions' containers from Cloud Functions' own copy of the source and pushes them to a
# repository of this module: the builder can write to no other repository of the project.

resource "google_artifact_registry_repository" "functions" {
  project       = var.project
  location      = var.region
  repository_id = "${var.prefix}-functions"
  description   = "Containers of Goldsmith's functions."
  format        = "DOCKER"
  labels        = local.labels

  depends_on = [google_project_service.api]
}

resource "google_artifact_registry_repository_iam_member" "builder" {
  project    = var.project
  location   = var.region
  repository = google_artifact_registry_repository.functions.repository_id
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.builder.member
}

resource "google_project_iam_member" "builder" {
  for_each = toset(["roles/logging.logWriter"])

  project = var.project
  role    = each.key
  member  = google_service_account.builder.member
}

resource "google_project_iam_member" "builder_source" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = google_service_account.builder.member

  condition {
    title       = "only-source"
    description = "The source of functions, and no data of builds."
    expression  = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-\") || resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.source.name}/\")"
  }
}

# Grants take effect after a minute or more, and Cloud Build fails without them.

resource "time_sleep" "builder" {
  create_duration = "90s"

  depends_on = [
    google_artifact_registry_repository_iam_member.builder,
    google_project_iam_member.builder,
    google_project_iam_member.builder_source,
  ]
}
