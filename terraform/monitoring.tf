# Metrics and alerts. A log entry of a function is counted by the metric that its field `metric` names.

locals {
  counted = {
    wrong_signature  = "Reports with a wrong signature: from a guest that lies, or after the master key was changed during a build."
    flood            = "Reports that were dropped because their VM had sent more than any honest VM needs to send."
    poison_message   = "Messages that can never be handled, and were dropped."
    slow_cleaning    = "Builds that have been cleaning for over an hour, counted at each tick."
    slow_turn        = "Queued builds, requested over an hour ago, that cannot begin although it is their turn, counted at each tick."
    trigger_paused   = "Triggers of a spec that were paused, since too many of its builds have failed in a row."
    promotion_lapsed = "Promotions that were not approved in time."
    damaged_document = "Documents of builds and events that cannot be read, counted at each attempt to read them."
  }

  # The text of each metric's alert: the meaning, and the remedy.
  alerts = {
    wrong_signature  = "A report had a wrong signature and was dropped. See docs/security.md: it may be from an impostor and not from a build VM."
    damaged_document = "A build, or an event of one, cannot be read: it is damaged, or was written by a newer Goldsmith. Other builds continue. See docs/deployment.md."
    flood            = "A build VM has sent more reports than any honest VM needs to send; the excess is dropped, and other builds continue. The log entry names the build: check its steps, and who requested it. See docs/deployment.md."
    trigger_paused   = "The triggers of a spec were paused, since too many of its builds have failed in a row. The log entry names the spec: it is built again once it is changed or resumed. See docs/deployment.md."
    promotion_lapsed = "A promotion to a channel was not approved within the channel's approve_within, and has lapsed. The log entry names image and channel: ask for the promotion again, or leave it. See docs/published-images.md."
    slow_cleaning    = "A build has been cleaning for over an hour: a resource that it made cannot be deleted. The log of clean_up names the resource and the reason."
    slow_turn        = "A queued build that was requested over an hour ago cannot begin, although it is its turn. The log of expire_builds names the reason: perhaps a permission that its account lacks. See docs/deployment.md."
  }
}

resource "google_logging_metric" "counted" {
  for_each = local.counted

  project     = var.project
  name        = "${var.prefix}/${each.key}"
  description = each.value
  filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name:\"${var.prefix}-\" AND jsonPayload.metric=\"${each.key}\""

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "counted" {
  for_each = local.alerts

  project               = var.project
  display_name          = "Goldsmith: ${each.key}"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = var.notification_channels
  user_labels           = local.labels

  conditions {
    display_name = each.key

    condition_threshold {
      filter          = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.counted[each.key].name}\" AND resource.type=\"cloud_run_revision\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = each.value
  }
}

resource "google_monitoring_alert_policy" "dead_letters" {
  project               = var.project
  display_name          = "Goldsmith: dead letters"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = var.notification_channels
  user_labels           = local.labels

  conditions {
    display_name = "dead letters"

    condition_threshold {
      filter          = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.dead_letters.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "All attempts to deliver a message failed, and it became a dead letter. See docs/deployment.md: pull it, repair the fault, publish it again."
  }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "silent_tick" {
  project               = var.project
  display_name          = "Goldsmith: no tick"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = var.notification_channels
  user_labels           = local.labels

  conditions {
    display_name = "expire_builds has not answered for ten minutes"

    condition_absent {
      filter   = "metric.type=\"run.googleapis.com/request_count\" AND resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${google_cloudfunctions2_function.function["expire_builds"].name}\" AND metric.labels.response_code_class=\"2xx\""
      duration = "600s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Deadlines and lost VMs are not being checked. See the log of expire_builds and the job in Cloud Scheduler. VMs still end by themselves."
  }
}
