"""The load generator: seeded traces of an imagined shop, sent over OTLP and, on request, read back and counted."""
