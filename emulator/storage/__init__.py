"""Cloud Storage on one machine: the JSON API that gsutil, gcloud and Google's clients speak; signed URLs."""
