# The key that signs what is stated of images. The deployer makes it, in whatever project: the functions can neither make,
# change nor disable it, and label_image alone can sign with it. Predefined roles, since custom ones of this project do not
# exist in another. Whose signatures count is in the bucket, below a prefix where no function and no submitter can write.

locals {
  trusted_keys = merge({ for version in compact([var.signing_key]) : version => "" }, var.trusted_keys)
  signing_keys = toset([for version in compact([var.signing_key]) : split("/cryptoKeyVersions/", version)[0]])
  asked_keys   = toset([for version, pem in local.trusted_keys : split("/cryptoKeyVersions/", version)[0] if pem == ""])
}

resource "google_kms_crypto_key_iam_member" "signs" {
  for_each = local.signing_keys

  crypto_key_id = each.key
  role          = "roles/cloudkms.signer"
  member        = google_service_account.function["label_image"].member
}

resource "google_kms_crypto_key_iam_member" "checks" {
  for_each = { for pair in setproduct(local.followers, local.asked_keys) : join(" ", pair) => { member = pair[0], key = pair[1] } }

  crypto_key_id = each.value.key
  role          = "roles/cloudkms.publicKeyViewer"
  member        = each.value.member
}

resource "google_storage_bucket_object" "trusted_keys" {
  count = length(local.trusted_keys) > 0 ? 1 : 0

  bucket       = google_storage_bucket.bucket.name
  name         = "keys/trusted.json"
  content      = jsonencode({ keys = local.trusted_keys })
  content_type = "application/json"
}
