"""Vocabulary that every layer shares: span rows, schema, ids, limits, errors. No I/O."""
