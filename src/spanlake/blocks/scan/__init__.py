"""Answering scan requests: live spans and blocks as typed columns of whole traces (`model.scan`)."""
