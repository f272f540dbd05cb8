"""The storage format: blocks, their catalog, the write-ahead log, live spans, compaction and retention."""
