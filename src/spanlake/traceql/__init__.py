"""The TraceQL language: text to checked syntax tree and back. Pure Python, no numpy, no I/O."""
