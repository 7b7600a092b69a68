# The functions, 2nd gen. Memory, timeout and concurrency are those of shared/topology.py; a test compares the two.

locals {
  functions = merge(local.spans_function, {
    start_build      = { memory_mb = 2048, timeout = 300, concurrency = 1 }
    advance_build    = { memory_mb = 512, timeout = 60, concurrency = 32 }
    create_resources = { memory_mb = 512, timeout = 540, concurrency = 8 }
    grow_disk        = { memory_mb = 512, timeout = 540, concurrency = 8 }
    export_image     = { memory_mb = 512, timeout = 540, concurrency = 8 }
    verify_image     = { memory_mb = 512, timeout = 540, concurrency = 8 }
    label_image      = { memory_mb = 512, timeout = 540, concurrency = 8 }
    deprecate_images = { memory_mb = 512, timeout = 540, concurrency = 8 }
    clean_up         = { memory_mb = 512, timeout = 540, concurrency = 8 }
    expire_builds    = { memory_mb = 512, timeout = 300, concurrency = 1 }
    retire_images    = { memory_mb = 512, timeout = 540, concurrency = 1 }
    call_webhooks    = { memory_mb = 256, timeout = 60, concurrency = 8 }
    dashboard        = { memory_mb = 512, timeout = 60, concurrency = 32 }
  })

  # Sends traces, and there is none without a collector.
  spans_function = { for name in var.otlp_endpoint == null ? [] : ["send_spans"] : name => { memory_mb = 512, timeout = 60, concurrency = 8 } }
  traced         = toset(concat(keys(local.spans_function), var.otlp_endpoint == null ? [] : ["call_webhooks"]))

  iap_audience = "/projects/${google_storage_bucket.bucket.project_number}/locations/${var.region}/services/${var.prefix}-dashboard"

  public   = toset(["dashboard"])                               # called by people, from the networks that dashboard_ingress allows
  triggers = toset(var.eventarc_trigger ? ["start_build"] : []) # also called by Eventarc, for each object of the bucket
}

resource "google_cloudfunctions2_function" "function" {
  for_each = local.functions

  project     = var.project
  location    = var.region
  name        = "${var.prefix}-${replace(each.key, "_", "-")}"
  description = "Goldsmith: ${each.key}"
  labels      = local.labels

  build_config {
    runtime           = var.runtime
    entry_point       = each.key
    service_account   = google_service_account.builder.id
    docker_repository = google_artifact_registry_repository.functions.id

    source {
      storage_source {
        bucket = google_storage_bucket_object.source.bucket
        object = google_storage_bucket_object.source.name
      }
    }
  }

  service_config {
    service_account_email            = google_service_account.function[each.key].email
    min_instance_count               = 0
    max_instance_count               = var.max_instances
    max_instance_request_concurrency = each.value.concurrency
    available_cpu                    = "1" # the minimum for more than one request at a time
    available_memory                 = "${each.value.memory_mb}Mi"
    timeout_seconds                  = each.value.timeout
    ingress_settings                 = contains(local.public, each.key) ? var.dashboard_ingress : "ALLOW_INTERNAL_ONLY"
    all_traffic_on_latest_revision   = true

    environment_variables = merge(contains(local.traced, each.key) ? { GOLDSMITH_OTLP_ENDPOINT = var.otlp_endpoint } : {}, each.key == "label_image" && var.signing_key != null ? { GOLDSMITH_SIGNING_KEY = var.signing_key } : {}, each.key == "dashboard" && var.dashboard_iap ? { GOLDSMITH_IAP_AUDIENCE = local.iap_audience } : {}, {
      GOLDSMITH_PROJECT            = var.project
      GOLDSMITH_BUCKET             = google_storage_bucket.bucket.name
      GOLDSMITH_ZONES              = join(",", var.zones)
      GOLDSMITH_VM_SERVICE_ACCOUNT = google_service_account.vm.email
      GOLDSMITH_LIMITS             = jsonencode(local.limits)
      GOLDSMITH_CHANNELS           = jsonencode(var.channels)
      GOLDSMITH_PEOPLE             = jsonencode(var.people)
      GOLDSMITH_DELIVERY           = var.delivery
      GOLDSMITH_SECURE_BOOT        = tostring(var.secure_boot)
      GOLDSMITH_MAKER_IMAGE        = var.maker_image

      # functions-framework starts four threads by default, and a worker that waits for Compute Engine holds one for
      # minutes. At least two, since a single thread would wait for a client that holds an idle connection.
      THREADS = tostring(max(2, each.value.concurrency))

      LOG_EXECUTION_ID = "true" # as `gcloud functions deploy` sets it for new functions: log entries carry the id of their request
    })

    dynamic "secret_environment_variables" {
      for_each = local.access[each.key].keyed ? ["GOLDSMITH_MASTER_KEY"] : []
      content {
        key        = secret_environment_variables.value
        project_id = var.project
        secret     = google_secret_manager_secret.master_key.secret_id
        version    = google_secret_manager_secret_version.master_key.version # each new key makes a new revision
      }
    }

    dynamic "secret_environment_variables" {
      for_each = each.key == "call_webhooks" ? local.webhooks_secret : []
      content {
        key        = "GOLDSMITH_WEBHOOKS"
        project_id = secret_environment_variables.value.project
        secret     = secret_environment_variables.value.secret
        version    = "latest" # each new instance of the function reads it
      }
    }
  }

  dynamic "event_trigger" {
    for_each = contains(local.triggers, each.key) ? [google_storage_bucket.bucket.name] : []
    content {
      event_type            = "google.cloud.storage.object.v1.finalized"
      trigger_region        = var.region
      retry_policy          = "RETRY_POLICY_RETRY"
      service_account_email = google_service_account.trigger[0].email

      event_filters {
        attribute = "bucket"
        value     = event_trigger.value
      }
    }
  }

  depends_on = [
    time_sleep.builder,
    google_artifact_registry_repository_iam_member.builder,
    google_firestore_index.index, # Firestore refuses queries without an index
    google_project_iam_member.builder,
    google_project_iam_member.builder_source,
    google_project_iam_member.storage_agent,
    google_project_iam_member.trigger,
    google_kms_crypto_key_iam_member.signs, # else no image could be published
    google_secret_manager_secret_iam_member.master_key,
    google_secret_manager_secret_iam_member.webhooks,
    google_storage_notification.notification, # its topic keeps uploads while functions are replaced
  ]
}
