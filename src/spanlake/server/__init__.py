"""HTTP and gRPC edges: requests in, status codes and bytes out."""
