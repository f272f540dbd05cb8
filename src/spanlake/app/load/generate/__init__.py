"""From the description of a shop to OTLP templates: what is simulated once, so that sending is only patching."""
