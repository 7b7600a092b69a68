# Goldsmith on Google Cloud. README.md lists the files in the order of the flow.

terraform {
  required_version = ">= 1.11" # for write-only arguments, which keep the master key out of state and plan

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "= 6.50.0"
    }
    archive = {
      source  = "hashicorp/archive"
      version = "= 2.7.1"
    }
    random = {
      source  = "hashicorp/random"
      version = "= 3.7.2"
    }
    time = {
      source  = "hashicorp/time"
      version = "= 0.13.1"
    }
  }
}
