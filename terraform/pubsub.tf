# Topics and filtered push subscriptions. shared/topology.py has the same as data; a test compares the two.

locals {
  topics = {
    "specs-uploaded"  = "Objects written below specs/, announced by Cloud Storage."
    "build-requests"  = "Requests for builds: other pipelines, and the schedules of rebuilds."
    "build-reports"   = "Signed reports of build VMs."
    "build-events"    = "Facts about builds, from the functions."
    "build-orders"    = "Orders to the functions."
    "builds-finished" = "Every finished build, whole, for other pipelines."
    "image-requests"  = "Requests of operators to revoke images."
    "people-requests" = "What people ask for in the dashboard, which alone publishes here."
    "webhook-calls"   = "One message for each webhook that is told of a finished build."
    "dead-letters"    = "Messages that no function could handle."
  }

  # Each subscription sends the messages of a topic that its filter matches to a function. The acknowledgement deadline is
  # longer than the function's timeout, so that a slow function does not get its message twice.
  subscriptions = merge({ for name, subscription in local.spans_subscription : name => subscription if contains(keys(local.functions), subscription.function) }, {
    "specs" = {
      topic        = "specs-uploaded", function = "start_build", filter = "attributes.eventType = \"OBJECT_FINALIZE\"", ordered = false
      ack_deadline = 360, min_backoff = 5, max_backoff = 600, attempts = 20
    }
    "requests" = {
      topic        = "build-requests", function = "start_build", filter = "", ordered = false
      ack_deadline = 360, min_backoff = 5, max_backoff = 600, attempts = 20
    }
    "followed" = {
      topic        = "builds-finished", function = "start_build", filter = "attributes:followed", ordered = false
      ack_deadline = 360, min_backoff = 5, max_backoff = 600, attempts = 20
    }
    "image-requests" = {
      topic        = "image-requests", function = "deprecate_images", filter = "", ordered = false
      ack_deadline = 600, min_backoff = 5, max_backoff = 600, attempts = 20
    }
    "people-builds" = {
      topic        = "people-requests", function = "advance_build", filter = "attributes.about = \"builds\"", ordered = false
      ack_deadline = 60, min_backoff = 1, max_backoff = 600, attempts = 20
    }
    "people-retries" = {
      topic        = "people-requests", function = "start_build", filter = "attributes.about = \"retries\"", ordered = false
      ack_deadline = 360, min_backoff = 1, max_backoff = 600, attempts = 20
    }
    "people-images" = {
      topic        = "people-requests", function = "deprecate_images", filter = "attributes.about = \"images\"", ordered = false
      ack_deadline = 600, min_backoff = 1, max_backoff = 600, attempts = 20
    }
    "finished" = {
      topic        = "builds-finished", function = "call_webhooks", filter = "", ordered = false
      ack_deadline = 60, min_backoff = 5, max_backoff = 600, attempts = 20
    }
    "webhook-calls" = {
      topic        = "webhook-calls", function = "call_webhooks", filter = "", ordered = false
      ack_deadline = 90, min_backoff = 10, max_backoff = 600, attempts = 20
    }
    # Not ordered: a VM chooses its messages' ordering keys, and could hold up the messages of another build.
    "vm-reports" = {
      topic        = "build-reports", function = "advance_build", filter = "", ordered = false
      ack_deadline = 60, min_backoff = 1, max_backoff = 600, attempts = 20
    }
    # From the previous release: it holds the messages that were on their way at the upgrade, and a subscription's
    # ordering cannot be changed. Later messages arrive by both subscriptions and count once. The next release removes it.
    "reports" = {
      topic        = "build-reports", function = "advance_build", filter = "", ordered = true
      ack_deadline = 60, min_backoff = 1, max_backoff = 600, attempts = 20
    }
    "events" = {
      topic        = "build-events", function = "advance_build", filter = "", ordered = true
      ack_deadline = 60, min_backoff = 1, max_backoff = 600, attempts = 100
    }
    "orders-create-resources" = {
      topic        = "build-orders", function = "create_resources", filter = "attributes.order = \"create_resources\"", ordered = false
      ack_deadline = 600, min_backoff = 2, max_backoff = 600, attempts = 100
    }
    "orders-grow-disk" = {
      topic        = "build-orders", function = "grow_disk", filter = "attributes.order = \"grow_disk\"", ordered = false
      ack_deadline = 600, min_backoff = 2, max_backoff = 600, attempts = 100
    }
    "orders-export-image" = {
      topic        = "build-orders", function = "export_image", filter = "attributes.order = \"export_image\"", ordered = false
      ack_deadline = 600, min_backoff = 2, max_backoff = 600, attempts = 100
    }
    "orders-verify-image" = {
      topic        = "build-orders", function = "verify_image", filter = "attributes.order = \"verify_image\"", ordered = false
      ack_deadline = 600, min_backoff = 2, max_backoff = 600, attempts = 100
    }
    "orders-label-image" = {
      topic        = "build-orders", function = "label_image", filter = "attributes.order = \"label_image\"", ordered = false
      ack_deadline = 600, min_backoff = 2, max_backoff = 600, attempts = 100
    }
    "orders-deprecate-images" = {
      topic        = "build-orders", function = "deprecate_images", filter = "attributes.order = \"deprecate_images\"", ordered = false
      ack_deadline = 600, min_backoff = 2, max_backoff = 600, attempts = 100
    }
    "orders-clean-up" = {
      topic        = "build-orders", function = "clean_up", filter = "attributes.order = \"clean_up\"", ordered = false
      ack_deadline = 600, min_backoff = 2, max_backoff = 600, attempts = 100
    }
  })

  spans_subscription = {
    "spans" = {
      topic        = "builds-finished", function = "send_spans", filter = "", ordered = false
      ack_deadline = 60, min_backoff = 10, max_backoff = 600, attempts = 20
    }
  }

  # Topics to which Cloud Storage publishes the objects that are written below a prefix of the bucket.
  notifications = { "specs-uploaded" = "specs/" }

  a_week = "604800s"

  # Pub/Sub's agent signs the tokens of pushes and moves dead letters; Cloud Storage's agent publishes. The addresses are
  # written out because they must be known when an upgrade is planned: Terraform replaces a grant to an unknown member.
  pubsub_agent  = "serviceAccount:service-${google_storage_bucket.bucket.project_number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  iap_agent     = "serviceAccount:service-${google_storage_bucket.bucket.project_number}@gcp-sa-iap.iam.gserviceaccount.com"
  storage_agent = "serviceAccount:service-${google_storage_bucket.bucket.project_number}@gs-project-accounts.iam.gserviceaccount.com"
}

resource "google_pubsub_topic" "topic" {
  for_each = local.topics

  project                    = var.project
  name                       = each.key
  message_retention_duration = local.a_week # so that a subscription can seek back to a time before a fault
  labels                     = local.labels

  depends_on = [google_project_service.api]
}

resource "google_storage_notification" "notification" {
  for_each = local.notifications

  bucket             = google_storage_bucket.bucket.name
  topic              = google_pubsub_topic.topic[each.key].id
  object_name_prefix = each.value
  event_types        = ["OBJECT_FINALIZE"]
  payload_format     = "JSON_API_V1"

  depends_on = [google_pubsub_topic_iam_member.storage_agent]
}

resource "google_pubsub_subscription" "push" {
  for_each = local.subscriptions

  project                    = var.project
  name                       = each.key
  topic                      = google_pubsub_topic.topic[each.value.topic].id
  filter                     = each.value.filter
  enable_message_ordering    = each.value.ordered
  ack_deadline_seconds       = each.value.ack_deadline
  message_retention_duration = local.a_week
  labels                     = local.labels

  # functions/handling takes the topic's name from the end of this path, since a push does not contain it.
  push_config {
    push_endpoint = "${google_cloudfunctions2_function.function[each.value.function].service_config[0].uri}/projects/${var.project}/topics/${each.value.topic}"

    oidc_token {
      service_account_email = google_service_account.pusher.email
      audience              = google_cloudfunctions2_function.function[each.value.function].service_config[0].uri
    }
  }

  retry_policy {
    minimum_backoff = "${each.value.min_backoff}s"
    maximum_backoff = "${each.value.max_backoff}s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.topic["dead-letters"].id
    max_delivery_attempts = each.value.attempts
  }

  expiration_policy {
    ttl = "" # never, so that the subscription outlives a month without builds
  }

  depends_on = [google_cloud_run_v2_service_iam_member.pusher]
}

resource "google_pubsub_subscription" "dead_letters" {
  project                    = var.project
  name                       = "dead-letters"
  topic                      = google_pubsub_topic.topic["dead-letters"].id
  ack_deadline_seconds       = 60
  message_retention_duration = local.a_week
  labels                     = local.labels

  expiration_policy {
    ttl = ""
  }
}
