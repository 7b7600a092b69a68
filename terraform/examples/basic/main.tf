# The smallest deployment: a project with billing, and the members that may use it.

terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }
}

variable "project" {
  description = "Id of the project."
  type        = string
}

variable "region" {
  description = "Region of the functions, the bucket and the database."
  type        = string
  default     = "us-central1"
}

variable "zones" {
  description = "Zones for builds whose spec names none."
  type        = list(string)
  default     = ["us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"]
}

variable "people" {
  description = "Members that may request builds, follow them and see the dashboard, such as user:me@example.org."
  type        = set(string)
  default     = []
}

variable "eventarc_trigger" {
  description = "Whether Eventarc also calls start_build: true for the first applies of an upgrade."
  type        = bool
  default     = false
}

provider "google" {
  project = var.project
  region  = var.region
}

module "goldsmith" {
  source = "../.."

  project            = var.project
  region             = var.region
  zones              = var.zones
  submitters         = var.people
  dashboard_invokers = var.people
  eventarc_trigger   = var.eventarc_trigger

  rebuilds = {
    weekly-hello = {
      spec       = "gs://${var.project}-goldsmith/specs/hello/build.yaml"
      cron       = "0 4 * * 1"
      parameters = { release = "weekly" }
      paused     = true # until there is such a spec
    }
  }
}

output "submit" {
  description = "Command that builds a spec."
  value       = module.goldsmith.submit
}

output "dashboard" {
  description = "URL of the dashboard."
  value       = module.goldsmith.dashboard
}
