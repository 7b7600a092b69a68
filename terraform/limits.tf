# Limits of specs. start_build checks plans against them and explains a refusal. IAM also enforces `subnets` and
# `external_ip_allowed` (access.tf): functions that create VMs may use no other subnetwork of the project.

locals {
  regions = toset([for zone in var.zones : replace(zone, "/-[a-z]$/", "")])

  subnets = toset(flatten([
    for subnet in var.subnets : [
      for region in local.regions :
      startswith(subnet, "projects/") ? subnet : "projects/${var.project}/regions/${region}/subnetworks/${subnet}"
    ]
  ]))

  own_subnets = [for subnet in local.subnets : subnet if startswith(subnet, "projects/${var.project}/")]

  # In seconds: 5400 for 1h30m.
  max_timeout = sum([
    for part in regexall("([0-9]+)([dhms])", var.max_timeout) :
    tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]
  ])

  # In seconds, too; 0 for "0".
  max_keep = sum(concat([0], [
    for part in regexall("([0-9]+)([dhms])", var.max_keep) :
    tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]
  ]))

  # The same of images that wait for a retry.
  retry_for = sum(concat([0], [
    for part in regexall("([0-9]+)([dhms])", var.retry_for) :
    tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]
  ]))

  # The same of boot disks.
  retry_disk_for = sum(concat([0], [
    for part in regexall("([0-9]+)([dhms])", var.retry_disk_for) :
    tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]
  ]))

  # The keys are those of Limits in shared/build/limits.py; a test compares the two.
  limits = {
    subnets             = local.subnets
    external_ip_allowed = var.external_ip_allowed
    machine_types       = var.machine_types
    gpu_types           = var.gpu_types
    max_timeout         = local.max_timeout
    max_disk_gb         = var.max_disk_gb
    max_keep            = local.max_keep
    retry_for           = local.retry_for
    retry_disk_for      = local.retry_disk_for
    kms_keys            = var.kms_keys
    storage_locations   = var.storage_locations
    share_with          = var.share_with
    copy_projects       = var.copy_projects
    export_buckets      = var.export_buckets
    vm_service_accounts = var.vm_service_accounts
    concurrency         = var.concurrency
    family_concurrency  = var.family_concurrency
    trigger_failures    = var.trigger_failures
    adopted_families    = var.adopted_families
    consumers           = var.consumers
    budgets = {
      for family, budget in var.budgets : family => {
        dollars        = budget.dollars
        allow_unpriced = budget.allow_unpriced
        per = sum([
          for part in regexall("([0-9]+)([dhms])", budget.per) :
          tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]
        ])
      }
    }
    retire_images = {
      for family, rule in var.retire_images : family => {
        keep = rule.keep
        older_than = sum(concat([0], [
          for part in regexall("([0-9]+)([dhms])", rule.older_than) :
          tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]
        ]))
      }
    }
  }
}
