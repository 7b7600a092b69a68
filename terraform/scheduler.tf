# Schedules: the tick, which enforces deadlines and finds lost VMs; old images; and rebuilds.

locals {
  schedules = {
    "expire-builds" = { function = "expire_builds", cron = "* * * * *" }
    "retire-images" = { function = "retire_images", cron = "23 */6 * * *" }
  }
}

resource "google_cloud_scheduler_job" "tick" {
  for_each = local.schedules

  project          = var.project
  region           = var.region
  name             = "${var.prefix}-${each.key}"
  description      = "Goldsmith: calls ${each.value.function}."
  schedule         = each.value.cron
  time_zone        = "Etc/UTC"
  attempt_deadline = "${local.functions[each.value.function].timeout}s"

  http_target {
    http_method = "POST"
    uri         = google_cloudfunctions2_function.function[each.value.function].service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.scheduler.email
      audience              = google_cloudfunctions2_function.function[each.value.function].service_config[0].uri
    }
  }

  retry_config {
    retry_count = 0 # the next tick is a minute away
  }

  depends_on = [google_cloud_run_v2_service_iam_member.scheduler]
}

resource "google_cloud_scheduler_job" "rebuild" {
  for_each = var.rebuilds

  project     = var.project
  region      = var.region
  name        = "${var.prefix}-rebuild-${each.key}"
  description = "Goldsmith: builds ${each.value.spec}."
  schedule    = each.value.cron
  time_zone   = each.value.time_zone
  paused      = each.value.paused

  pubsub_target {
    topic_name = google_pubsub_topic.topic["build-requests"].id
    data       = base64encode(jsonencode({ spec = each.value.spec, parameters = each.value.parameters }))
  }
}
