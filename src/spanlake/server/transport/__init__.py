"""What lies between sockets and endpoints: connection limits, bodies, compression, content negotiation. Knows no endpoint."""
