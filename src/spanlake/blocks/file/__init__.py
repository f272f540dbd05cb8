"""Block files: one Parquet file each, with what a reader needs to skip it in the footer (docs/formats/block.md)."""
