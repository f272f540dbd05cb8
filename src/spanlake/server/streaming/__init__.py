"""`tempopb.StreamingQuerier` over gRPC: the queries of the HTTP API as streams of messages. Wire-contract section 2."""
