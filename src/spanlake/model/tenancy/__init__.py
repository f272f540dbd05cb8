"""Tenants: what their names may be, and what limits each may have."""
