# A template of Packer. specs/ holds what goldsmith makes of it:
#
#   cd examples/packer && goldsmith convert web.pkr.hcl --var project_id=my-project --output specs
variable "project_id" {
  type = string
}

variable "release" {
  type    = string
  default = "7"
}

locals {
  built = formatdate("YYYYMMDD", timestamp())
}

source "googlecompute" "web" {
  project_id          = var.project_id
  source_image_family = "debian-12"
  zone                = "europe-west4-a"
  ssh_username        = "packer"
  image_name          = "web-${local.built}"
  image_family        = "web"
  image_labels        = { release = var.release }
  disk_size           = 10
}

build {
  sources = ["source.googlecompute.web"]

  provisioner "file" {
    content     = "release ${var.release}\n"
    destination = "/etc/release-of-web"
  }

  provisioner "shell" {
    environment_vars = ["RELEASE=${var.release}"]
    execute_command  = "chmod +x {{ .Path }}; {{ .Vars }} sudo -E {{ .Path }}"
    script           = "setup.sh"
  }

  provisioner "shell" {
    inline = ["sudo systemctl mask apt-daily.timer apt-daily-upgrade.timer"]
  }

  post-processor "manifest" {}
}
