"""Values of columns as `model.scan` has them, whatever they were read from."""
