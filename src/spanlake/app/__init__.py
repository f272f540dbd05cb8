"""Settings, assembly of the running system, command line."""
