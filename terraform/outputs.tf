output "bucket" {
  description = "The bucket of specs, contexts, results and logs."
  value       = google_storage_bucket.bucket.name
}

output "submit" {
  description = "Command that builds a spec."
  value       = "gsutil cp SPEC.yaml gs://${google_storage_bucket.bucket.name}/specs/"
}

output "results" {
  description = "Prefix below which each finished build writes its result."
  value       = "gs://${google_storage_bucket.bucket.name}/results/"
}

output "topics" {
  description = "Ids of the topics, by name. Other pipelines publish to build-requests and subscribe to builds-finished."
  value       = { for name, topic in google_pubsub_topic.topic : name => topic.id }
}

output "dashboard" {
  description = "URL of the dashboard, for the members in dashboard_invokers."
  value       = try(google_cloudfunctions2_function.function["dashboard"].service_config[0].uri, null) # absent with -target
}

output "vm_service_account" {
  description = "Service account of build VMs."
  value       = google_service_account.vm.email
}

output "service_accounts" {
  description = "Service accounts of the functions, by function: for grants in other projects."
  value       = { for name, account in google_service_account.function : name => account.email }
}
