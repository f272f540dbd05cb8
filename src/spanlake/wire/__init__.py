"""Sans-I/O codecs between wire formats and span batches."""
