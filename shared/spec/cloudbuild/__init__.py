"""COS Customizer's workflows: a cloudbuild.yaml becomes native specs."""
