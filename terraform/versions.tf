# Goldsmith on Google Cloud. Read on in the order of a build: apis, storage, pubsub, firestore, secrets, accounts,
# access, functions, scheduler, monitoring, outputs.

terraform {
  required_version = ">= 1.11" # write-only arguments: the master key is in no state and in no plan

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
    archive = {
      source  = "hashicorp/archive"
      version = "~> 2.7"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.7"
    }
  }
}
