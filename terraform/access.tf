# Permissions. There is one line for each permission that a function needs; docs/security.md names the call that needs
# it, and a test compares the two. There are no basic roles and no wildcards. Where a predefined role is wider than the
# need, the module makes a custom role.

locals {
  # For following an operation of Compute Engine.
  operations = ["compute.globalOperations.get", "compute.zoneOperations.get"]

  # For deleting a VM with its disk and its CIDATA image, after checking their labels and reading the VM's consoles.
  delete_vm = concat(local.operations, [
    "compute.disks.delete",
    "compute.disks.get",
    "compute.images.delete",
    "compute.images.get",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.getSerialPortOutput",
  ])

  # For creating a VM with its disks, finding one that exists already, and deleting one that was created too late.
  make_vm = concat(local.delete_vm, [
    "compute.disks.create",
    "compute.disks.list",
    "compute.disks.setLabels",
    "compute.disks.use",
    "compute.images.create",
    "compute.images.setLabels",
    "compute.instances.create",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setServiceAccount",
  ])

  # For a VM that writes an image's files: it is made, and then given the image's disk.
  export_vm = concat(local.make_vm, ["compute.instances.attachDisk"])
  exports   = length(var.export_buckets) > 0

  # For putting a VM into a subnetwork: granted on the subnetworks in `subnets`, and not on the project.
  put_vm = concat(["compute.subnetworks.use"], var.external_ip_allowed ? ["compute.subnetworks.useExternalIp"] : [])

  # For finding what uses images: in this project, and in each of `consumers`.
  list_users = ["compute.disks.list", "compute.instanceGroupManagers.list", "compute.instanceTemplates.list"]

  # builds: permissions on the VMs, disks and images that builds make for themselves; their names begin with gs-.
  # images: permissions on all images of the project, since sources and results of builds can have any name.
  # store, objects: read, add or write. keyed: the function gets the master key. gives_vm: the function gives VMs their
  # service account, their subnetwork and signed URLs.
  access = merge({ for name, access in local.spans_access : name => access if contains(keys(local.functions), name) }, {
    start_build = {
      builds = [
        "compute.acceleratorTypes.get", "compute.machineTypes.get", "compute.networks.get", "compute.subnetworks.get",
        "compute.zones.list"
      ]
      images = ["compute.images.get", "compute.images.list"]
      store  = "write", objects = { "specs/" = "read", "uploads/" = "read", "contexts/" = "add", "results/" = "read" }
      topics = ["build-orders", "builds-finished"], keyed = false, gives_vm = false
    }
    advance_build = {
      builds = [], images = []
      store  = "write", objects = {}
      topics = ["build-orders", "builds-finished"], keyed = true, gives_vm = false
    }
    create_resources = {
      builds = local.make_vm
      images = ["compute.images.get", "compute.images.useReadOnly"]
      store  = "read", objects = { "contexts/" = "read", "cidata/" = "write", "logs/" = "write" }
      topics = ["build-events"], keyed = true, gives_vm = true
    }
    grow_disk = {
      builds = concat(local.operations, [
        "compute.disks.get", "compute.disks.resize", "compute.instances.get", "compute.instances.list",
        "compute.zoneOperations.list"
      ])
      images = []
      store  = "read", objects = {}
      topics = ["build-events"], keyed = false, gives_vm = false
    }
    export_image = {
      builds = concat(local.operations, local.exports ? local.export_vm : [], [
        "compute.disks.get", "compute.disks.useReadOnly", "compute.instances.get",
        "compute.instances.getSerialPortOutput", "compute.instances.list", "compute.zoneOperations.list"
      ])
      images = concat(
        ["compute.images.create", "compute.images.delete", "compute.images.get", "compute.images.setLabels"],
        local.exports ? ["compute.images.useReadOnly"] : []
      )
      store  = "read", objects = merge({ "logs/" = "write" }, local.exports ? { "cidata/" = "write" } : {})
      topics = ["build-events"], keyed = local.exports, gives_vm = local.exports
    }
    verify_image = {
      builds = local.make_vm
      images = ["compute.images.get", "compute.images.useReadOnly"]
      store  = "read", objects = { "contexts/" = "read", "cidata/" = "write", "logs/" = "write" }
      topics = ["build-events"], keyed = true, gives_vm = true
    }
    label_image = {
      builds = ["compute.globalOperations.get"]
      images = ["compute.images.get", "compute.images.list", "compute.images.setLabels", "compute.images.update"]
      store  = "read", objects = { "specs/" = "read", "contexts/" = "read", "results/" = "write" }
      topics = ["build-events"], keyed = false, gives_vm = false
    }
    deprecate_images = {
      builds = ["compute.globalOperations.get"]
      images = concat(
        local.list_users,
        [
          "compute.images.create", "compute.images.deprecate", "compute.images.get", "compute.images.list",
          "compute.images.setLabels", "compute.images.update", "compute.images.useReadOnly"
        ],
        length(var.share_with) > 0 ? ["compute.images.getIamPolicy", "compute.images.setIamPolicy"] : []
      )
      store  = "write", objects = {} # writes to the records of images alone: that they were revoked, copied or distributed
      topics = ["build-events"], keyed = false, gives_vm = false
    }
    clean_up = {
      builds = local.delete_vm
      images = [
        "compute.images.delete", "compute.images.get", "compute.images.setLabels", "compute.images.update"
      ]
      store  = "read", objects = { "cidata/" = "write", "results/" = "write", "logs/" = "write" }
      topics = ["build-events"], keyed = false, gives_vm = false
    }
    expire_builds = {
      builds = concat(local.delete_vm, [
        "compute.acceleratorTypes.get", "compute.disks.list", "compute.instances.list", "compute.machineTypes.get",
        "compute.zoneOperations.list", "compute.zones.list"
      ])
      images = ["compute.images.delete", "compute.images.get", "compute.images.list"]
      store  = "write", objects = { "cidata/" = "write", "logs/" = "write", "upkeep/" = "write" }
      topics = ["build-events", "build-orders", "build-reports", "build-requests", "builds-finished"], keyed = true, gives_vm = false
    }
    retire_images = {
      builds = []
      images = concat(["compute.globalOperations.get"], local.list_users, [
        "compute.images.delete", "compute.images.deprecate", "compute.images.get", "compute.images.list"
      ])
      store  = "write", objects = { "retirement/" = "write" } # writes to the records of images alone
      topics = [], keyed = false, gives_vm = false
    }
    call_webhooks = {
      builds = [], images = []
      store  = "", objects = {}
      topics = ["webhook-calls"], keyed = false, gives_vm = false
    }
    dashboard = {
      builds = ["compute.instances.getSerialPortOutput"], images = ["compute.images.get", "compute.images.list"]
      store  = "read", objects = { "logs/" = "read", "results/" = "read", "retirement/" = "read", "upkeep/" = "read" }
      topics = var.dashboard_iap ? ["people-requests"] : [], keyed = false, gives_vm = false
    }
  })

  spans_access = {
    send_spans = {
      builds = [], images = []
      store  = "read", objects = {}
      topics = [], keyed = false, gives_vm = false
    }
  }

  role_prefix = replace(var.prefix, "-", "_") # ids of roles have no dashes

  # Restricts a role to resources of builds, whatever a function is told. Lists are checked on the project, which has none
  # of these types.
  only_builds = join(" && ", [
    for type, path in { Disk = "/disks/{name}", Image = "/images/{name}", Instance = "/instances/{name}" } :
    "(resource.type != \"compute.googleapis.com/${type}\" || resource.name.extract(\"${path}\").startsWith(\"gs-\"))"
  ])

  only_database = "resource.name == \"projects/${var.project}/databases/${local.database}\""
}

# Compute Engine.

resource "google_project_iam_custom_role" "builds" {
  for_each = { for function, access in local.access : function => access.builds if length(access.builds) > 0 }

  project     = var.project
  role_id     = "${local.role_prefix}_${each.key}"
  title       = "Goldsmith: ${each.key}"
  description = "Access of ${each.key} to resources that builds make for themselves."
  permissions = distinct(each.value)

  # An upgrade grants the use of each subnetwork before it removes that permission from these roles, so builds continue.
  depends_on = [google_project_service.api, google_compute_subnetwork_iam_member.puts_vm]
}

resource "google_project_iam_member" "builds" {
  for_each = google_project_iam_custom_role.builds

  project = var.project
  role    = each.value.name
  member  = google_service_account.function[each.key].member

  condition {
    title       = "only-builds"
    description = "VMs, disks and images are those of builds."
    expression  = local.only_builds
  }
}

resource "google_project_iam_custom_role" "images" {
  for_each = { for function, access in local.access : function => access.images if length(access.images) > 0 }

  project     = var.project
  role_id     = "${local.role_prefix}_${each.key}_images"
  title       = "Goldsmith: images of ${each.key}"
  description = "Access of ${each.key} to all images of the project."
  permissions = each.value

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "images" {
  for_each = google_project_iam_custom_role.images

  project = var.project
  role    = each.value.name
  member  = google_service_account.function[each.key].member
}

resource "google_project_iam_member" "source_images" {
  for_each = {
    for pair in setproduct(
      concat(["start_build", "create_resources", "expire_builds"], local.exports ? ["export_image"] : []),
      var.source_projects
    ) : join(" ", pair) => pair
  }

  project = each.value[1]
  role    = "roles/compute.imageUser"
  member  = google_service_account.function[each.value[0]].member
}

# How many dead letters wait is a metric. Pulling them would show them, and allow to delete them.

resource "google_project_iam_custom_role" "count" {
  project     = var.project
  role_id     = "${local.role_prefix}_count"
  title       = "Goldsmith: count dead letters"
  description = "Reads metrics of the project, and nothing else."
  permissions = ["monitoring.timeSeries.list"]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "count" {
  project = var.project
  role    = google_project_iam_custom_role.count.name
  member  = google_service_account.function["expire_builds"].member
}

# Projects that use the images. A project that cannot be listed keeps every image.

resource "google_project_iam_custom_role" "list_users" {
  for_each = var.consumers

  project     = each.value
  role_id     = "${local.role_prefix}_list_users"
  title       = "Goldsmith: list users of images"
  description = "Lists disks, instance templates and managed instance groups, and nothing else."
  permissions = local.list_users

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "list_users" {
  for_each = google_project_iam_custom_role.list_users

  project = each.value.project
  role    = each.value.name
  member  = google_service_account.function["retire_images"].member
}

resource "google_project_iam_member" "list_users_of_revoked" {
  for_each = google_project_iam_custom_role.list_users

  project = each.value.project
  role    = each.value.name
  member  = google_service_account.function["deprecate_images"].member
}

# Subnetworks. The owners of other projects grant the use of theirs.

resource "google_project_iam_custom_role" "put_vm" {
  project     = var.project
  role_id     = "${local.role_prefix}_put_vm"
  title       = "Goldsmith: put VMs into a subnetwork"
  description = "Uses a subnetwork for VMs of builds."
  permissions = local.put_vm

  depends_on = [google_project_service.api]
}

resource "google_compute_subnetwork_iam_member" "puts_vm" {
  for_each = {
    for pair in setproduct([for function, access in local.access : function if access.gives_vm], local.own_subnets) :
    join(" ", pair) => { function = pair[0], region = split("/", pair[1])[3], subnet = split("/", pair[1])[5] }
  }

  project    = var.project
  region     = each.value.region
  subnetwork = each.value.subnet
  role       = google_project_iam_custom_role.put_vm.name
  member     = google_service_account.function[each.value.function].member
}

# Only the functions that create VMs may give them a service account. IAM signs URLs: no service account has a key.

resource "google_service_account_iam_member" "gives_vm" {
  for_each = toset([for function, access in local.access : function if access.gives_vm])

  service_account_id = google_service_account.vm.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.function[each.key].member
}

resource "google_service_account_iam_member" "gives_other_vm" {
  for_each = {
    for pair in setproduct(["create_resources", "verify_image"], var.vm_service_accounts) :
    join(" ", pair) => pair
  }

  service_account_id = "projects/-/serviceAccounts/${each.value[1]}"
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.function[each.value[0]].member
}

resource "google_project_iam_custom_role" "sign" {
  project     = var.project
  role_id     = "${local.role_prefix}_sign"
  title       = "Goldsmith: sign"
  description = "Signs URLs; gives no tokens of the account."
  permissions = ["iam.serviceAccounts.signBlob"]

  depends_on = [google_project_service.api]
}

resource "google_service_account_iam_member" "signs" {
  for_each = toset([for function, access in local.access : function if access.gives_vm])

  service_account_id = google_service_account.function[each.key].name
  role               = google_project_iam_custom_role.sign.name
  member             = google_service_account.function[each.key].member
}

# Firestore. No function can delete a build or an event: they expire, or `repairers` set them aside. No account can begin
# a transaction, which would lock documents (datastore.databases.get): all writes are conditional.

resource "google_project_iam_custom_role" "store" {
  for_each = {
    read  = ["datastore.entities.get", "datastore.entities.list"]
    write = ["datastore.entities.create", "datastore.entities.get", "datastore.entities.list", "datastore.entities.update"]
    forget = [ # for `repairers` alone, who set aside documents that cannot be read
      "datastore.entities.create", "datastore.entities.delete", "datastore.entities.get", "datastore.entities.list",
      "datastore.entities.update"
    ]
  }

  project     = var.project
  role_id     = "${local.role_prefix}_store_${each.key}"
  title       = "Goldsmith: ${each.key} builds"
  description = "Builds and their events in Firestore: ${each.key}."
  permissions = each.value

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "store" {
  for_each = { for function, access in local.access : function => access if access.store != "" }

  project = var.project
  role    = google_project_iam_custom_role.store[each.value.store].name
  member  = google_service_account.function[each.key].member

  condition {
    title       = "only-database"
    description = "Other databases of the project are none of ours."
    expression  = local.only_database
  }
}

# Google Cloud's own collector of traces takes them by IAM; others are the deployer's. The role has one permission.

resource "google_project_iam_member" "traces" {
  for_each = local.to_cloud_trace ? local.traced : toset([])

  project = var.project
  role    = "roles/telemetry.tracesWriter"
  member  = google_service_account.function[each.key].member

  depends_on = [google_project_service.api]
}

# Cloud Storage. Reading includes listing: without it, the answer for an absent object is 403. Overwriting an object
# takes the permission to delete it.

resource "google_project_iam_custom_role" "objects" {
  for_each = {
    read  = ["storage.objects.get", "storage.objects.list"]
    add   = ["storage.objects.create", "storage.objects.get", "storage.objects.list"]
    write = ["storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list"]
  }

  project     = var.project
  role_id     = "${local.role_prefix}_objects_${each.key}"
  title       = "Goldsmith: ${each.key} objects"
  description = "Objects below some prefixes of the bucket: ${each.key}."
  permissions = each.value

  depends_on = [google_project_service.api]
}

locals {
  in_bucket = "projects/_/buckets/${local.bucket}"
  object_access = merge([
    for function, access in local.access : {
      for prefix, role in access.objects :
      "${function} ${prefix}" => { member = google_service_account.function[function].member, prefix = prefix, role = role }
    }
  ]...)
}

resource "google_storage_bucket_iam_member" "objects" {
  for_each = merge(local.object_access, local.submitted, local.folders) # of functions, and of people

  bucket = google_storage_bucket.bucket.name
  role   = google_project_iam_custom_role.objects[each.value.role].name
  member = each.value.member

  condition {
    title       = "only-${trimsuffix(each.value.prefix, "/")}"
    description = "Objects below ${each.value.prefix}, and the list of names."
    expression = join("", [
      "resource.name == \"${local.in_bucket}\" || resource.name.startsWith(\"${local.in_bucket}/objects/${each.value.prefix}\")",
      each.value.prefix == "specs/" && each.value.role == "write" && length(local.folders) > 0 ? " && !resource.name.startsWith(\"${local.in_bucket}/objects/specs/people/\")" : ""
    ])
  }
}

resource "google_storage_bucket_iam_member" "context_buckets" {
  for_each = {
    for pair in setproduct(["label_image", "start_build"], var.context_buckets) :
    "${pair[0]} ${pair[1]}" => { function = pair[0], bucket = pair[1] }
  }

  bucket = each.value.bucket
  role   = "roles/storage.objectViewer" # the bucket may be in another project, where custom roles of this one do not exist
  member = google_service_account.function[each.value.function].member
}

# Files of images: export_image opens uploads and looks at what has come of them, label_image gives names and writes what
# lies beside them, clean_up deletes what is left. start_build and expire_builds list names, and cannot read: a spec can
# name its context in any bucket that they can read. The VM that writes them has no role there.

resource "google_storage_bucket_iam_member" "export_buckets" {
  for_each = {
    for pair in setproduct(
      [
        ["clean_up", "roles/storage.objectUser"], ["expire_builds", "roles/storage.legacyBucketReader"],
        ["export_image", "roles/storage.objectCreator"], ["export_image", "roles/storage.objectViewer"],
        ["label_image", "roles/storage.objectUser"], ["start_build", "roles/storage.legacyBucketReader"]
      ],
      var.export_buckets
    ) :
    "${pair[0][0]} ${pair[0][1]} ${pair[1]}" => { function = pair[0][0], role = pair[0][1], bucket = pair[1] }
  }

  bucket = each.value.bucket
  role   = each.value.role # the bucket may be in another project, where custom roles of this one do not exist
  member = google_service_account.function[each.value.function].member
}

# Pub/Sub: publishing.

locals {
  publishes = merge([
    for function, access in local.access : {
      for topic in access.topics :
      "${function} ${topic}" => { member = google_service_account.function[function].member, topic = topic }
    }
  ]...)
}

resource "google_pubsub_topic_iam_member" "publishes" {
  for_each = local.publishes

  project = var.project
  topic   = google_pubsub_topic.topic[each.value.topic].name
  role    = "roles/pubsub.publisher"
  member  = each.value.member
}

resource "google_pubsub_topic_iam_member" "vm" {
  project = var.project
  topic   = google_pubsub_topic.topic["build-reports"].name
  role    = "roles/pubsub.publisher"
  member  = google_service_account.vm.member
}

# Reports of VMs with another account come by the topic too, and not by their serial port alone, which is read each minute.

resource "google_pubsub_topic_iam_member" "other_vm" {
  for_each = var.vm_service_accounts

  project = var.project
  topic   = google_pubsub_topic.topic["build-reports"].name
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:${each.value}"
}

# Secrets.

# Numbers and states of versions, and no values. In the projects of the secrets, where roles of this one do not exist, and
# where those of other deployments may: so the id has this project's.

resource "google_project_iam_custom_role" "secret_versions" {
  for_each = toset([for secret in var.latest_secrets : split("/", secret)[1]])

  project     = each.value
  role_id     = substr("${local.role_prefix}_secret_versions_${replace(var.project, "/[^a-z0-9]/", "_")}", 0, 64)
  title       = "Goldsmith: look up versions of secrets"
  description = "Numbers and states of the versions of a secret, and no value."
  permissions = ["secretmanager.versions.get"]

  depends_on = [google_project_service.api]
}

resource "google_secret_manager_secret_iam_member" "secret_versions" {
  for_each = var.latest_secrets

  project   = split("/", each.value)[1]
  secret_id = split("/", each.value)[3]
  role      = google_project_iam_custom_role.secret_versions[split("/", each.value)[1]].name
  member    = google_service_account.function["start_build"].member
}

resource "google_secret_manager_secret_iam_member" "master_key" {
  for_each = toset([for function, access in local.access : function if access.keyed])

  project   = var.project
  secret_id = google_secret_manager_secret.master_key.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function[each.key].member
}

resource "google_secret_manager_secret_iam_member" "webhooks" {
  for_each = { for secret in local.webhooks_secret : "call_webhooks" => secret }

  project   = each.value.project
  secret_id = each.value.secret
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function[each.key].member
}
