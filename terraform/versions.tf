# Goldsmith on Google Cloud. README.md says what is in which file, in the order of the flow.

terraform {
  required_version = ">= 1.11" # write-only arguments: the master key is in no state and in no plan

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
  }
}
