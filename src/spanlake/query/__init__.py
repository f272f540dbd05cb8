"""One use case per module: answer a question from live spans and blocks."""
