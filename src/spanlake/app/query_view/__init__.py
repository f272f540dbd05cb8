"""Answers of the query API for the terminal: JSON in, lines out."""
