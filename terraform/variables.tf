variable "project" {
  description = "Id of the project that holds the deployment. Builds and images belong to it unless a spec names another project."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^([a-z0-9][-a-z0-9.]*:)?[a-z][-a-z0-9]{4,28}[a-z0-9]$", var.project))
    error_message = "Write the project's id, as `gcloud projects list` shows it, not its number or display name."
  }
}

variable "region" {
  description = "Region of the functions, the bucket, the schedules and the database."
  type        = string
  nullable    = false
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Write one region, such as us-central1."
  }
}

variable "zones" {
  description = "Zones for builds whose spec names none; the first that has room is taken. Set it together with region."
  type        = list(string)
  nullable    = false
  default     = ["us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"]

  validation {
    condition     = length(var.zones) > 0 && alltrue([for zone in var.zones : can(regex("^[a-z]+-[a-z]+[0-9]+-[a-z]$", zone))])
    error_message = "Write at least one zone, such as us-central1-a."
  }
}

variable "prefix" {
  description = "Prefix of the names of functions, accounts, roles, schedules and the secret. The names of topics are fixed in the code, so a project holds one Goldsmith."
  type        = string
  nullable    = false
  default     = "goldsmith"

  validation {
    condition     = can(regex("^[a-z][-a-z0-9]{0,11}[a-z0-9]$", var.prefix))
    error_message = "Write 2 to 13 lower-case letters, digits and dashes: names of service accounts end at 30 characters."
  }
}

variable "bucket" {
  description = "Name of the bucket of specs, contexts, results and logs; null for PROJECT-PREFIX, with dashes for the colon and dots of example.com:project. The functions' source goes to a second bucket, of this name with -source appended."
  type        = string
  default     = null

  validation {
    condition     = var.bucket == null || can(regex("^[a-z0-9][-a-z0-9_.]{1,54}[a-z0-9]$", var.bucket))
    error_message = "Write 3 to 56 lower-case letters, digits, dashes, dots and underscores."
  }
}

variable "delivery" {
  description = "How build VMs get their files: download, by one signed URL; or disk, for VMs that can reach only Pub/Sub, or no network at all."
  type        = string
  nullable    = false
  default     = "download"

  validation {
    condition     = contains(["download", "disk"], var.delivery)
    error_message = "Write download or disk."
  }
}

variable "runtime" {
  description = "Python runtime of the functions: python311 or newer."
  type        = string
  nullable    = false
  default     = "python312"

  validation {
    condition     = can(regex("^python31[1-9]$", var.runtime))
    error_message = "Write a runtime such as python312."
  }
}

variable "max_instances" {
  description = "Maximum number of instances that one function may have at a time."
  type        = number
  nullable    = false
  default     = 20

  validation {
    condition     = var.max_instances >= 1 && floor(var.max_instances) == var.max_instances
    error_message = "Write a whole number, 1 or more."
  }
}

variable "create_database" {
  description = "Whether to create the project's database `(default)`. Set it to false where the project already has one, in Firestore's native mode."
  type        = bool
  nullable    = false
  default     = true
}

variable "eventarc_trigger" {
  description = "Whether Eventarc also calls start_build, as in the previous release. Set it to true for the first applies of an upgrade, so that no uploaded spec is lost meanwhile."
  type        = bool
  nullable    = false
  default     = false
}

variable "results_days" {
  description = "Days after which objects below results/ are deleted."
  type        = number
  nullable    = false
  default     = 365

  validation {
    condition     = var.results_days >= 1
    error_message = "Write 1 or more days."
  }
}

variable "logs_days" {
  description = "Days after which objects below logs/ are deleted: the consoles of build VMs that no longer exist."
  type        = number
  nullable    = false
  default     = 90

  validation {
    condition     = var.logs_days >= 1
    error_message = "Write 1 or more days."
  }
}

variable "rebuilds" {
  description = "Rebuild schedules, by name: a spec in a bucket, the cron schedule to build it by, the time zone, and parameters."
  type = map(object({
    spec       = string
    cron       = string
    time_zone  = optional(string, "Etc/UTC")
    parameters = optional(map(string), {})
    paused     = optional(bool, false)
  }))
  nullable = false
  default  = {}

  validation {
    condition     = alltrue([for name in keys(var.rebuilds) : can(regex("^[a-z][-a-z0-9]{0,62}$", name))])
    error_message = "Name rebuilds with lower-case letters, digits and dashes, a letter first."
  }
  validation {
    condition     = alltrue([for rebuild in values(var.rebuilds) : can(regex("^gs://[^/]+/.+$", rebuild.spec))])
    error_message = "Write each rebuild's spec as gs://bucket/object."
  }
  validation {
    condition     = alltrue([for rebuild in values(var.rebuilds) : length(split(" ", rebuild.cron)) == 5])
    error_message = "Write each rebuild's cron as five fields with one space between them, such as `0 4 * * 1`."
  }
}

variable "submitters" {
  description = "Members that may request builds and follow them: user:, group: or serviceAccount:."
  type        = set(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for member in var.submitters : can(regex("^(user|group|serviceAccount):.+@.+$", member))])
    error_message = "Write members such as group:builders@example.org."
  }
}

variable "operators" {
  description = "Members that may also cancel builds and pull dead letters. They can publish events, so they are trusted as much as the functions."
  type        = set(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for member in var.operators : can(regex("^(user|group|serviceAccount):.+@.+$", member))])
    error_message = "Write members such as group:operators@example.org."
  }
}

variable "repairers" {
  description = "Members that may set aside builds and images whose documents cannot be read (goldsmith builds forget). They can write to the database, so they are trusted as much as the functions."
  type        = set(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for member in var.repairers : can(regex("^(user|group|serviceAccount):.+@.+$", member))])
    error_message = "Write members such as group:repairers@example.org."
  }
}

variable "dashboard_invokers" {
  description = "Members that may call the dashboard: user:, group:, serviceAccount: or domain:example.org."
  type        = set(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for member in var.dashboard_invokers : can(regex("^(user|group|serviceAccount):.+@.+$|^domain:.+$", member))])
    error_message = "Write members such as group:builders@example.org; never allUsers, since builds show their steps' output."
  }
}

variable "source_projects" {
  description = "Projects whose private images specs may name as their source. Google's public images need no entry."
  type        = set(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for project in var.source_projects : can(regex("^([a-z0-9][-a-z0-9.]*:)?[a-z][-a-z0-9]{4,28}[a-z0-9]$", project))])
    error_message = "Write project ids."
  }
}

variable "context_buckets" {
  description = "Other buckets that specs and contexts may be read from."
  type        = set(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for bucket in var.context_buckets : can(regex("^[a-z0-9][-a-z0-9_.]+[a-z0-9]$", bucket))])
    error_message = "Write names of buckets, without gs://."
  }
}

variable "vm_service_accounts" {
  description = "Other service accounts that specs may give to their build VM (build.service_account). Steps can do everything that these accounts may do."
  type        = set(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for email in var.vm_service_accounts : can(regex("^[^@]+@.+[.]gserviceaccount[.]com$", email))])
    error_message = "Write the e-mail addresses of service accounts."
  }
}

variable "subnets" {
  description = "Subnetworks that VMs may use: a name (in this project, in each region of zones), or projects/PROJECT/regions/REGION/subnetworks/NAME. The use of another project's subnetwork is granted by its owner."
  type        = list(string)
  nullable    = false
  default     = ["default"]

  validation {
    condition     = length(var.subnets) > 0 && alltrue([for subnet in var.subnets : can(regex("^(projects/[^/,]+/regions/[a-z]+-[a-z]+[0-9]+/subnetworks/)?[a-z]([-a-z0-9]{0,61}[a-z0-9])?$", subnet))])
    error_message = "Write at least one subnetwork, as its name or projects/PROJECT/regions/REGION/subnetworks/NAME."
  }
}

variable "external_ip_allowed" {
  description = "Whether specs may give their VM an external IP address (build.external_ip), as workflows of COS Customizer do. Set it to false once VMs reach what they need through Cloud NAT or Private Google Access."
  type        = bool
  nullable    = false
  default     = true
}

variable "secure_boot" {
  description = "Whether all build VMs are Shielded VMs with Secure Boot, vTPM and integrity monitoring, whatever their spec says: for projects with the policy compute.requireShieldedVm. A single spec asks for it with build.secure_boot."
  type        = bool
  nullable    = false
  default     = false
}

variable "maker_image" {
  description = "The image that a build VM boots from to make a root from nothing (source.rootfs, oci, bootstrap, elements): projects/PROJECT/global/images/family/FAMILY, or .../images/NAME. It is Debian 12 or later, for x86-64; programs that it lacks are installed by apt at each build."
  type        = string
  nullable    = false
  default     = "projects/debian-cloud/global/images/family/debian-12"

  validation {
    condition     = can(regex("^projects/[^/\\s]+/global/images/(family/)?[^/\\s]+$", var.maker_image))
    error_message = "Write projects/PROJECT/global/images/family/FAMILY or projects/PROJECT/global/images/NAME."
  }
}

variable "machine_types" {
  description = "Machine types that specs may use: names, in which * matches any characters."
  type        = list(string)
  nullable    = false
  default     = ["*"]

  validation {
    condition     = length(var.machine_types) > 0 && alltrue([for type in var.machine_types : can(regex("^[-a-z0-9*]+$", type))])
    error_message = "Write at least one machine type, such as n2-standard-4 or n2-standard-*."
  }
}

variable "gpu_types" {
  description = "GPUs that specs may use (build.gpu_type): names, in which * matches any characters; [] for none. Machine types with built-in GPUs are limited by machine_types."
  type        = list(string)
  nullable    = false
  default     = ["*"]

  validation {
    condition     = alltrue([for type in var.gpu_types : can(regex("^[-a-z0-9*]+$", type))])
    error_message = "Write types such as nvidia-tesla-t4 or nvidia-*."
  }
}

variable "max_timeout" {
  description = "Longest build.timeout that a spec may set, such as 90m, 24h or 7d: the time from a build's request to its deadline, over all attempts and steps. VMs' files and contexts are kept accordingly."
  type        = string
  nullable    = false
  default     = "24h"

  validation {
    condition     = can(regex("^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$", var.max_timeout)) && try(sum([for part in regexall("([0-9]+)([dhms])", var.max_timeout) : tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]]), 0) > 0
    error_message = "Write a duration such as 90m, 1h30m or 7d."
  }
  validation {
    condition     = try(sum([for part in regexall("([0-9]+)([dhms])", var.max_timeout) : tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]]), 0) <= 2592000
    error_message = "Write 30d or less, the most that a spec can ask for."
  }
}

variable "max_keep" {
  description = "Longest time for which the boot disk of a build that failed in a step is kept where its request asks for that (goldsmith submit --keep-on-failure), such as 2h or 1d; 0 for never. Disks cost money until then."
  type        = string
  nullable    = false
  default     = "0"

  validation {
    condition     = var.max_keep == "0" || can(regex("^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$", var.max_keep)) && var.max_keep != ""
    error_message = "Write a duration such as 90m, 2h or 1d, or 0."
  }
  validation {
    condition     = try(sum(concat([0], [for part in regexall("([0-9]+)([dhms])", var.max_keep) : tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]])), 0) <= 604800
    error_message = "Write 7d or less, the most that a request can ask for."
  }
}

variable "retry_for" {
  description = "Time for which the image of a build that failed in its verification waits for a retry (goldsmith builds retry), such as 24h or 2d; 0 for none, so that it is deleted at once. Images cost money until then."
  type        = string
  nullable    = false
  default     = "24h"

  validation {
    condition     = var.retry_for == "0" || can(regex("^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$", var.retry_for)) && var.retry_for != ""
    error_message = "Write a duration such as 90m, 2h or 1d, or 0."
  }
  validation {
    condition     = try(sum(concat([0], [for part in regexall("([0-9]+)([dhms])", var.retry_for) : tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]])), 0) <= 604800
    error_message = "Write 7d or less, as long as an image is kept that could not be published."
  }
}

variable "retry_disk_for" {
  description = "Time for which the boot disk of a build whose image could not be made waits for a retry (goldsmith builds retry), such as 1h or 8h; 0 for none. Disks cost money until then."
  type        = string
  nullable    = false
  default     = "1h"

  validation {
    condition     = var.retry_disk_for == "0" || can(regex("^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$", var.retry_disk_for)) && var.retry_disk_for != ""
    error_message = "Write a duration such as 90m, 2h or 1d, or 0."
  }
  validation {
    condition     = try(sum(concat([0], [for part in regexall("([0-9]+)([dhms])", var.retry_disk_for) : tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]])), 0) <= 604800
    error_message = "Write 7d or less, as for max_keep."
  }
}

variable "max_disk_gb" {
  description = "Largest disk of an image, and of the VM that builds it, in GB; null for Compute Engine's own limit."
  type        = number
  default     = null

  validation {
    condition     = var.max_disk_gb == null || try(var.max_disk_gb >= 1 && floor(var.max_disk_gb) == var.max_disk_gb, false)
    error_message = "Write a whole number of GB, 1 or more, or null."
  }
}

variable "kms_keys" {
  description = "Keys of Cloud KMS that specs may name for their image and disks: paths, in which * stands for any characters. [] for none."
  type        = list(string)
  nullable    = false
  default     = ["*"]

  validation {
    condition     = alltrue([for key in var.kms_keys : can(regex("^[-_A-Za-z0-9.:/*]+$", key))])
    error_message = "Write paths such as projects/my-project/locations/europe-west1/keyRings/images/cryptoKeys/*."
  }
}

variable "storage_locations" {
  description = "Locations of Cloud Storage that specs may name for their image, such as eu or europe-west1. [] for none."
  type        = list(string)
  nullable    = false
  default     = ["*"]

  validation {
    condition     = alltrue([for location in var.storage_locations : can(regex("^[-a-z0-9*]+$", location))])
    error_message = "Write locations such as eu, us or europe-west1; * stands for any characters."
  }
}

variable "share_with" {
  description = "Members that specs may share their image with: group:team@example.org, domain:example.org, or *@example.org; * stands for any characters. [] for none."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for member in var.share_with : can(regex("^[-_A-Za-z0-9.:@/*]+$", member))])
    error_message = "Write members such as group:team@example.org, or serviceAccount:*@my-project.iam.gserviceaccount.com."
  }
}

variable "export_buckets" {
  description = "Buckets that specs may have their image's files written to, by a VM (output.export). [] for none."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for bucket in var.export_buckets : can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", bucket))])
    error_message = "Write names of buckets, without gs://."
  }

  validation {
    condition     = !contains(var.export_buckets, local.bucket)
    error_message = "Write other buckets than the deployment's own, in which functions trust what they find."
  }
}

variable "copy_projects" {
  description = "Projects that specs may copy their image to; also this one, for copies in other locations. [] for none."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for project in var.copy_projects : can(regex("^([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]$", project))])
    error_message = "Write ids of projects, such as my-project."
  }
}

variable "concurrency" {
  description = "How many builds may have VMs at once; the others are queued in the order of their requests. null for no limit."
  type        = number
  default     = null

  validation {
    condition     = var.concurrency == null || try(var.concurrency >= 1 && floor(var.concurrency) == var.concurrency, false)
    error_message = "Write a whole number of builds, 1 or more, or null."
  }
}

variable "family_concurrency" {
  description = "How many builds that make images of one family may have VMs at once; the others are queued. With 1, no two of them publish at once. null for no limit."
  type        = number
  default     = null

  validation {
    condition     = var.family_concurrency == null || try(var.family_concurrency >= 1 && floor(var.family_concurrency) == var.family_concurrency, false)
    error_message = "Write a whole number of builds, 1 or more, or null."
  }
}

variable "trigger_failures" {
  description = "How many builds of a spec that its triggers have asked for may fail in a row; then its triggers are paused."
  type        = number
  default     = 5

  validation {
    condition     = try(var.trigger_failures >= 1 && floor(var.trigger_failures) == var.trigger_failures, false)
    error_message = "Write a whole number of builds, 1 or more."
  }
}

variable "adopted_families" {
  description = "Families in which deprecate_old may also deprecate older images that Goldsmith did not make, such as those of COS Customizer; [\"*\"] for all. Such images are never deleted."
  type        = list(string)
  nullable    = false
  default     = []
}

variable "channels" {
  description = "Channels that images can be promoted to: the channel prod of the family web is the family web-prod. A promotion to a channel with approvers, addresses of service accounts that one person each may impersonate, waits until two of them approve it, and lapses if they do not within approve_within, 7 days by default. docs/published-images.md says more."
  type = map(object({
    approvers      = optional(list(string), [])
    approve_within = optional(string)
  }))
  nullable = false
  default  = {}

  validation {
    condition     = alltrue([for name in keys(var.channels) : can(regex("^[a-z][a-z0-9]{0,15}$", name))]) && length(var.channels) <= 20
    error_message = "Write at most 20 channels, whose names have up to 16 lower-case letters and digits, a letter first and no dash."
  }

  validation {
    condition     = alltrue([for mail in flatten([for channel in values(var.channels) : channel.approvers]) : can(regex("^[^@\\s]{1,64}@[^@\\s]{1,255}$", mail))])
    error_message = "Write approvers as mail addresses: ann@example.com."
  }

  validation {
    condition     = alltrue([for channel in values(var.channels) : channel.approve_within == null || can(regex("^(([1-9]|[1-8][0-9]|90)d|[1-9][0-9]{0,2}h|[1-9][0-9]{0,3}m)$", channel.approve_within))])
    error_message = "Write approve_within as a duration of one unit, up to 90d, such as 7d or 36h."
  }
}

variable "people" {
  description = "The people that the deployment knows, each with all mail addresses that are that person's alone: of a login, of a service account that nobody else may impersonate. Only they can be known as authors of images, whose promotions need one approver less, and two addresses of one person count as one approver. With folder, nobody else may write below specs/people/NAME/, which has to be empty before. An operator may end and retry builds, and promote and revoke images, in the dashboard behind Identity-Aware Proxy. docs/published-images.md says more."
  type = map(object({
    addresses = list(string)
    folder    = optional(bool, false)
    operator  = optional(bool, false)
  }))
  nullable = false
  default  = {}

  validation {
    condition     = alltrue([for name in keys(var.people) : can(regex("^[a-z]([-a-z0-9]{0,30}[a-z0-9])?$", name))]) && length(var.people) <= 200
    error_message = "Write at most 200 people, whose names have up to 32 lower-case letters, digits and dashes, a letter first."
  }

  validation {
    condition     = alltrue([for person in values(var.people) : length(person.addresses) > 0 && alltrue([for mail in person.addresses : can(regex("^[^@\\s]{1,64}@[^@\\s]{1,255}$", mail))])])
    error_message = "Write at least one mail address for each person: ann@example.com."
  }

  validation {
    condition     = length(distinct([for mail in flatten([for person in values(var.people) : person.addresses]) : lower(mail)])) == length(flatten([for person in values(var.people) : person.addresses]))
    error_message = "An address belongs to one person alone, and is written once."
  }
}

variable "retire_images" {
  description = "Families whose old images go away, with the age from which they do and how many of the newest good ones stay. No other image is ever deleted. Without a rule for older_than, age does not matter."
  type = map(object({
    older_than = optional(string, "0s")
    keep       = optional(number, 1)
  }))
  nullable = false
  default  = {}

  validation {
    condition     = alltrue([for family in keys(var.retire_images) : can(regex("^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$", family))])
    error_message = "Write the names of families, such as hello."
  }
  validation {
    condition     = alltrue([for rule in values(var.retire_images) : can(regex("^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$", rule.older_than)) && rule.older_than != ""])
    error_message = "Write each older_than as a duration, such as 90d or 36h."
  }
  validation {
    condition     = alltrue([for rule in values(var.retire_images) : rule.keep >= 1 && rule.keep <= 1000 && floor(rule.keep) == rule.keep])
    error_message = "Write each keep as a whole number from 1 to 1000."
  }
}

variable "budgets" {
  description = "What builds may use, by the family of their image, in US dollars at list prices: a build is refused where the builds of its family that were requested in the last `per` leave no room for it, or where no price is known of its VMs, GPUs or disks, unless allow_unpriced is true. \"*\" is for all builds together. docs/cost.md says what counts, and by how much a budget can be exceeded."
  type = map(object({
    dollars        = number
    per            = optional(string, "30d")
    allow_unpriced = optional(bool, false)
  }))
  nullable = false
  default  = {}

  validation {
    condition     = alltrue([for family in keys(var.budgets) : can(regex("^([a-z]([-a-z0-9]{0,61}[a-z0-9])?|[*])$", family))])
    error_message = "Write the names of families, such as hello, or * for all builds."
  }
  validation {
    condition     = alltrue([for budget in values(var.budgets) : budget.dollars > 0])
    error_message = "Write dollars as a number above 0, such as 20."
  }
  validation {
    condition     = alltrue([for budget in values(var.budgets) : can(regex("^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$", budget.per)) && try(sum([for part in regexall("([0-9]+)([dhms])", budget.per) : tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]]), 0) > 0 && try(sum([for part in regexall("([0-9]+)([dhms])", budget.per) : tonumber(part[0]) * { d = 86400, h = 3600, m = 60, s = 1 }[part[1]]]), 0) <= 7776000])
    error_message = "Write each per as a duration up to 90d, such as 30d or 12h."
  }
}

variable "consumers" {
  description = "Other projects that use the images: their disks, instance templates and managed instance groups keep an image. The module creates a role there that can list these, and grants it to retire_images and deprecate_images."
  type        = set(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for project in var.consumers : can(regex("^([a-z0-9][-a-z0-9.]*:)?[a-z][-a-z0-9]{4,28}[a-z0-9]$", project))])
    error_message = "Write ids of projects, such as web-production."
  }
}

variable "master_key_version" {
  description = "Version of the master key; a higher number makes a new key. Reports of builds that run meanwhile are refused, so rotate while nothing is being built."
  type        = number
  nullable    = false
  default     = 1

  validation {
    condition     = var.master_key_version >= 1 && floor(var.master_key_version) == var.master_key_version
    error_message = "Write a whole number, 1 or more."
  }
}

variable "secret_locations" {
  description = "Regions in which Secret Manager keeps the master key; null for `region`, [] for Google's choice. It applies only when the secret is created."
  type        = list(string)
  default     = null

  validation {
    condition     = var.secret_locations == null || alltrue([for location in coalesce(var.secret_locations, []) : can(regex("^[a-z]+-[a-z]+[0-9]+$", location))])
    error_message = "Write regions such as us-central1, or [], or null."
  }
}

variable "webhooks_secret" {
  description = "The secret of Secret Manager with the webhooks that are told of finished builds, projects/PROJECT/secrets/NAME, which has a version already; null for none. docs/deployment.md has its form."
  type        = string
  default     = null

  validation {
    condition     = var.webhooks_secret == null || can(regex("^projects/[a-z0-9.:-]+/secrets/[A-Za-z0-9_-]{1,255}$", var.webhooks_secret))
    error_message = "Write projects/PROJECT/secrets/NAME, without a version."
  }
}

variable "latest_secrets" {
  description = "Secrets whose newest version specs may name, by versions/latest: projects/PROJECT/secrets/NAME. start_build may look up the numbers and states of their versions, and read no value. The module creates a role in each project."
  type        = set(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for secret in var.latest_secrets : can(regex("^projects/[a-z0-9:.-]{1,63}/secrets/[A-Za-z0-9_-]{1,255}$", secret))])
    error_message = "Write secrets as projects/PROJECT/secrets/NAME, without a version."
  }
}

variable "signing_key" {
  description = "The version of a key of Cloud KMS (EC_SIGN_P256_SHA256) that signs what is stated of images, projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N; null for none. With it, no image is published without a signature."
  type        = string
  default     = null

  validation {
    condition     = var.signing_key == null || can(regex("^projects/[a-z0-9:.-]{1,63}/locations/[a-z0-9-]{1,63}/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}/cryptoKeyVersions/[1-9][0-9]{0,9}$", var.signing_key))
    error_message = "Write projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY/cryptoKeyVersions/NUMBER."
  }
}

variable "trusted_keys" {
  description = "Further versions of keys whose signatures count, such as those that signed before, with their public keys in PEM; with \"\", Cloud KMS is asked, which answers for enabled versions alone."
  type        = map(string)
  nullable    = false
  default     = {}

  validation {
    condition     = alltrue([for version in keys(var.trusted_keys) : can(regex("^projects/[a-z0-9:.-]{1,63}/locations/[a-z0-9-]{1,63}/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}/cryptoKeyVersions/[1-9][0-9]{0,9}$", version))])
    error_message = "Write each key as projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY/cryptoKeyVersions/NUMBER."
  }
  validation {
    condition     = alltrue([for pem in values(var.trusted_keys) : pem == "" || startswith(pem, "-----BEGIN PUBLIC KEY-----")])
    error_message = "Write public keys in PEM, as `gcloud kms keys versions get-public-key` prints them, or \"\"."
  }
}

variable "dashboard_iap" {
  description = "Whether people reach the dashboard through Identity-Aware Proxy, and can cancel, retry, approve, promote and revoke there, as people and channels say. The proxy is turned on for the function's Cloud Run service by gcloud; see docs/dashboard.md."
  type        = bool
  nullable    = false
  default     = false
}

variable "dashboard_ingress" {
  description = "Networks from which dashboard_invokers can reach the dashboard: ALLOW_ALL, ALLOW_INTERNAL_ONLY, or ALLOW_INTERNAL_AND_GCLB for a load balancer. The policy cloudfunctions.allowedIngressSettings may refuse ALLOW_ALL."
  type        = string
  nullable    = false
  default     = "ALLOW_ALL"

  validation {
    condition     = contains(["ALLOW_ALL", "ALLOW_INTERNAL_ONLY", "ALLOW_INTERNAL_AND_GCLB"], var.dashboard_ingress)
    error_message = "Write ALLOW_ALL, ALLOW_INTERNAL_ONLY or ALLOW_INTERNAL_AND_GCLB."
  }
}

variable "notification_channels" {
  description = "Cloud Monitoring channels that receive the alerts, as projects/PROJECT/notificationChannels/ID."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", channel))])
    error_message = "Write channels as projects/PROJECT/notificationChannels/ID."
  }
}

variable "otlp_endpoint" {
  description = "Address of a collector of OpenTelemetry, without a path, to which the trace of each finished build is sent by OTLP over HTTP; https://telemetry.googleapis.com for Cloud Trace; null for none. With it, there is a function more: send_spans."
  type        = string
  default     = null

  validation {
    condition     = var.otlp_endpoint == null || can(regex("^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?$", var.otlp_endpoint))
    error_message = "Write an address such as https://telemetry.googleapis.com, without a path."
  }
}

variable "monitoring_dashboard" {
  description = "Whether to make a dashboard of Cloud Monitoring with charts of builds by outcome, their seconds, the queue, dollars, faults and dead letters. docs/observability.md shows what is in it."
  type        = bool
  nullable    = false
  default     = false
}

variable "labels" {
  description = "Labels of all resources that support them."
  type        = map(string)
  nullable    = false
  default     = {}

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][-a-z0-9_]{0,62}$", key)) && can(regex("^[-a-z0-9_]{0,63}$", value))])
    error_message = "Write keys and values of at most 63 lower-case letters, digits, dashes and underscores."
  }
}
