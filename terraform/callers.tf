# Who may call the functions, and what Google's own services need to bring messages to them.

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
  member   = google_service_account.trigger.member
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

# Pub/Sub signs the tokens of its pushes, takes a message off its subscription, and lays it with the dead letters.

resource "google_service_account_iam_member" "pubsub_agent" {
  service_account_id = google_service_account.pusher.name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = local.pubsub_agent

  depends_on = [google_pubsub_topic.topic] # the agent is there once Pub/Sub is used
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

# Eventarc hears of the bucket's objects by way of Pub/Sub.

data "google_storage_project_service_account" "agent" {
  project = var.project
}

resource "google_project_iam_member" "storage_agent" {
  project = var.project # the topic is Eventarc's own, and its name is not known before it is there
  role    = "roles/pubsub.publisher"
  member  = data.google_storage_project_service_account.agent.member
}

resource "google_project_iam_member" "trigger" {
  project = var.project
  role    = "roles/eventarc.eventReceiver"
  member  = google_service_account.trigger.member
}

# Cloud Build makes the functions' containers from Cloud Functions' own copy of the source, and lays them down in a
# repository of ours: the builder can write no other container of the project.

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
