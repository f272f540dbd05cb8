"""Ways to deliver one payload over OTLP: gRPC and HTTP behind one protocol, and the bounded retries above them."""
