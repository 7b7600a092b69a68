# The database of builds and their events.

locals {
  database = "(default)"
}

resource "google_firestore_database" "database" {
  count = var.create_database ? 1 : 0

  project                 = var.project
  name                    = local.database
  location_id             = var.region
  type                    = "FIRESTORE_NATIVE"
  concurrency_mode        = "OPTIMISTIC" # conditional writes instead of locks that block others
  delete_protection_state = "DELETE_PROTECTION_ENABLED"

  depends_on = [google_project_service.api]
}

# The indexes that the queries of shared/gcp/firestore.py need; a test compares the two.
locals {
  indexes = {
    "builds-unfinished" = {
      collection = "builds"
      fields     = [{ path = "state", order = "ASCENDING" }, { path = "created", order = "DESCENDING" }]
    }
    "builds-by-outcome" = {
      collection = "builds"
      fields     = [{ path = "outcome", order = "ASCENDING" }, { path = "created", order = "DESCENDING" }]
    }
    "builds-by-name" = {
      collection = "builds"
      fields     = [{ path = "name", order = "ASCENDING" }, { path = "created", order = "DESCENDING" }]
    }
    "builds-by-family" = {
      collection = "builds"
      fields     = [{ path = "family", order = "ASCENDING" }, { path = "created", order = "DESCENDING" }]
    }
    "events-of-kind" = {
      collection = "events"
      fields     = [{ path = "kind", order = "ASCENDING" }, { path = "time", order = "ASCENDING" }]
    }
  }

  unindexed = {
    "builds"          = "document" # long, and in no query
    "events"          = "document"
    "forgotten"       = "document"
    "images"          = "document"
    "promotions"      = "document"
    "person_requests" = "document"
    "triggers"        = "document"
  }

  deleted_after = {
    "builds"          = "delete_after"
    "events"          = "delete_after"
    "lives"           = "delete_after"
    "forgotten"       = "delete_after"
    "images"          = "delete_after"
    "promotions"      = "delete_after"
    "person_requests" = "delete_after"
    "triggers"        = "delete_after"
  }
}

resource "google_firestore_index" "index" {
  for_each = local.indexes

  project     = var.project
  database    = local.database
  collection  = each.value.collection
  query_scope = "COLLECTION"

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path = fields.value.path
      order      = fields.value.order
    }
  }

  depends_on = [google_firestore_database.database]
}

resource "google_firestore_field" "unindexed" {
  for_each = local.unindexed

  project    = var.project
  database   = local.database
  collection = each.key
  field      = each.value

  index_config {} # none

  depends_on = [google_firestore_database.database]
}

resource "google_firestore_field" "deleted_after" {
  for_each = local.deleted_after

  project    = var.project
  database   = local.database
  collection = each.key
  field      = each.value

  ttl_config {}
  index_config {} # indexing times that only grow would put every write at the same end of the index

  depends_on = [google_firestore_database.database]
}
