# The smallest deployment: a project with billing, and who may use it.

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
  description = "Who may ask for builds, follow them and look at the dashboard, such as user:me@example.org."
  type        = set(string)
  default     = []
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
  description = "A line that builds a spec."
  value       = module.goldsmith.submit
}

output "dashboard" {
  description = "Address of the dashboard."
  value       = module.goldsmith.dashboard
}
