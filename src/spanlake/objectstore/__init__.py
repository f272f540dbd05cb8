"""Bytes by key, on local disk, S3, GCS or Azure."""
