"""Endpoints of the query API, one topic per module; each is a function that returns its routes."""
