"""Tenants: the limits in force for each, where these come from, and who may act for which."""
