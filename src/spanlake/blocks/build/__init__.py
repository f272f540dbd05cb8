"""From span batches to the columns of the span table: which attributes get columns, and the Arrow arrays of each row group."""
