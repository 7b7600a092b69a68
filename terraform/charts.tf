# A dashboard of Cloud Monitoring: what metrics.tf and monitoring.tf count, and what waits in Pub/Sub.
# docs/observability.md says what it shows.

locals {
  builds_filters = {
    for name, metric in merge({ finished_builds = google_logging_metric.finished_builds }, google_logging_metric.finished_figures) :
    name => "metric.type=\"logging.googleapis.com/user/${metric.name}\" AND resource.type=\"cloud_run_revision\""
  }

  by_outcome  = { alignmentPeriod = "3600s", perSeriesAligner = "ALIGN_DELTA", crossSeriesReducer = "REDUCE_SUM", groupByFields = ["metric.label.outcome"] }
  by_family   = { alignmentPeriod = "3600s", perSeriesAligner = "ALIGN_DELTA", crossSeriesReducer = "REDUCE_SUM", groupByFields = ["metric.label.family"] }
  in_all      = { alignmentPeriod = "3600s", perSeriesAligner = "ALIGN_DELTA", crossSeriesReducer = "REDUCE_SUM" }
  mean        = { alignmentPeriod = "3600s", perSeriesAligner = "ALIGN_DELTA", crossSeriesReducer = "REDUCE_MEAN", groupByFields = ["metric.label.family"] }
  oldest      = { alignmentPeriod = "300s", perSeriesAligner = "ALIGN_MAX", crossSeriesReducer = "REDUCE_MAX", groupByFields = ["resource.label.subscription_id"] }
  percentiles = { "50 of 100" = "REDUCE_PERCENTILE_50", "95 of 100" = "REDUCE_PERCENTILE_95" }

  # PromQL alone adds up the values of a distribution; there, other characters of a metric's name are underscores.
  dollars_sum = "logging_googleapis_com:user_${replace(var.prefix, "-", "_")}_build_dollars_sum{monitored_resource=\"cloud_run_revision\"}"

  charts = [
    {
      title = "Finished builds by outcome", unit = "builds", plot = "STACKED_BAR"
      lines = [{ legend = "$${metric.labels.outcome}", query = { timeSeriesFilter = { filter = local.builds_filters["finished_builds"], aggregation = local.by_outcome } } }]
    },
    {
      title = "Builds that failed or timed out, by family", unit = "builds", plot = "STACKED_BAR"
      lines = [{ legend = "$${metric.labels.family}", query = { timeSeriesFilter = { filter = "${local.builds_filters["finished_builds"]} AND metric.labels.outcome=one_of(\"failed\",\"timed_out\")", aggregation = local.by_family } } }]
    },
    {
      title = "Seconds from request to announcement", unit = "s", plot = "LINE"
      lines = [for legend, reducer in local.percentiles : { legend = legend, query = { timeSeriesFilter = { filter = local.builds_filters["seconds"], aggregation = merge(local.in_all, { crossSeriesReducer = reducer }) } } }]
    },
    {
      title = "Seconds of a build's steps", unit = "s", plot = "LINE"
      lines = [for legend, reducer in local.percentiles : { legend = legend, query = { timeSeriesFilter = { filter = local.builds_filters["step_seconds"], aggregation = merge(local.in_all, { crossSeriesReducer = reducer }) } } }]
    },
    {
      title = "Seconds that builds have waited for their turn", unit = "s", plot = "LINE"
      lines = [for legend, reducer in local.percentiles : { legend = legend, query = { timeSeriesFilter = { filter = local.builds_filters["queue_seconds"], aggregation = merge(local.in_all, { crossSeriesReducer = reducer }) } } }]
    },
    {
      title = "Age of the oldest message that waits for a function", unit = "s", plot = "LINE"
      lines = [{ legend = "$${resource.labels.subscription_id}", query = { timeSeriesFilter = { filter = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=one_of(${join(",", [for name in keys(local.subscriptions) : "\"${name}\""])})", aggregation = local.oldest } } }]
    },
    {
      title = "Dollars at list prices, by family", unit = "USD", plot = "STACKED_BAR"
      lines = [{ legend = null, query = { prometheusQuery = "sum by (family) (increase(${local.dollars_sum}[$${__interval}]))" } }]
    },
    {
      title = "Mean dollars of a build at list prices, by family", unit = "USD", plot = "LINE"
      lines = [{ legend = "$${metric.labels.family}", query = { timeSeriesFilter = { filter = local.builds_filters["dollars"], aggregation = local.mean } } }]
    },
    {
      title = "Faults that alerts tell of", unit = "times", plot = "STACKED_BAR"
      lines = [for name, metric in google_logging_metric.counted : { legend = name, query = { timeSeriesFilter = { filter = "metric.type=\"logging.googleapis.com/user/${metric.name}\" AND resource.type=\"cloud_run_revision\"", aggregation = local.in_all } } }]
    },
    {
      title = "Dead letters", unit = "messages", plot = "LINE"
      lines = [{ legend = "$${resource.labels.subscription_id}", query = { timeSeriesFilter = { filter = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.dead_letters.name}\"", aggregation = local.oldest } } }]
    },
  ]

  tile = { width = 24, height = 16 } # two in a row of 48 columns, the most that there can be
}

resource "google_monitoring_dashboard" "charts" {
  count = var.monitoring_dashboard ? 1 : 0

  project = var.project
  dashboard_json = jsonencode({
    displayName = "Goldsmith (${var.prefix})"
    labels      = { for name in keys(local.labels) : name => "" } # a dashboard's labels are tags: their values are empty
    mosaicLayout = {
      columns = 2 * local.tile.width
      tiles = [for index, chart in local.charts : merge(
        # The API leaves a 0 out of its answer, which would be a change in each plan.
        { for key, value in { xPos = index % 2 * local.tile.width, yPos = floor(index / 2) * local.tile.height } : key => value if value > 0 },
        {
          width  = local.tile.width
          height = local.tile.height
          widget = {
            title = chart.title
            xyChart = {
              yAxis = { label = chart.unit, scale = "LINEAR" }
              dataSets = [for line in chart.lines : merge(
                { plotType = chart.plot, targetAxis = "Y1", timeSeriesQuery = line.query },
                { for template in line.legend[*] : "legendTemplate" => template }
              )]
            }
          }
        }
      )]
    }
  })

  depends_on = [google_project_service.api]
}
