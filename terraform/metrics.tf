# Metrics of finished builds, of the entry that advance_build writes as it announces an outcome. docs/observability.md
# says how to look at them.

locals {
  finished_filter = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.prefix}-advance-build\" AND jsonPayload.figures.kind=\"finished_build\""

  finished_figures = {
    queue_seconds = { unit = "s", growth = 2, scale = 1, buckets = 20, description = "Seconds that a build has waited for its turn." }
    seconds       = { unit = "s", growth = 2, scale = 10, buckets = 16, description = "Seconds from a build's request to its announcement." }
    step_seconds  = { unit = "s", growth = 2, scale = 1, buckets = 18, description = "Seconds of all steps of a build." }
    dollars       = { unit = "1", growth = 2, scale = 0.001, buckets = 20, description = "Dollars of a build at list prices; builds without a known price are not in it." }
  }

  finished_labels = {
    outcome = "succeeded, failed, timed_out, cancelled or unchanged."
    family  = "The family of the image."
  }
}

resource "google_logging_metric" "finished_builds" {
  project     = var.project
  name        = "${var.prefix}/finished_builds"
  description = "Finished builds by outcome and family."
  filter      = local.finished_filter

  label_extractors = { for name, _ in local.finished_labels : name => "EXTRACT(jsonPayload.figures.${name})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"

    dynamic "labels" {
      for_each = local.finished_labels
      content {
        key         = labels.key
        value_type  = "STRING"
        description = labels.value
      }
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_logging_metric" "finished_figures" {
  for_each = local.finished_figures

  project          = var.project
  name             = "${var.prefix}/build_${each.key}"
  description      = each.value.description
  filter           = "${local.finished_filter} AND jsonPayload.figures.${each.key}>=0"
  value_extractor  = "EXTRACT(jsonPayload.figures.${each.key})"
  label_extractors = { for name, _ in local.finished_labels : name => "EXTRACT(jsonPayload.figures.${name})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = each.value.unit

    dynamic "labels" {
      for_each = local.finished_labels
      content {
        key         = labels.key
        value_type  = "STRING"
        description = labels.value
      }
    }
  }

  bucket_options {
    exponential_buckets {
      num_finite_buckets = each.value.buckets
      growth_factor      = each.value.growth
      scale              = each.value.scale
    }
  }

  depends_on = [google_project_service.api]
}
