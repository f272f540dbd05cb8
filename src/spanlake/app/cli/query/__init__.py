"""Commands that ask a running server: one module per command, as in the package above."""
