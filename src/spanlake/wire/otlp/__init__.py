"""OTLP protobuf: payload bytes to a span batch (`decode`) and back (`encode`)."""
