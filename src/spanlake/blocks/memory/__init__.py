"""Span batches in memory: interning strings, appending, concatenating, and putting rows into trace order."""
