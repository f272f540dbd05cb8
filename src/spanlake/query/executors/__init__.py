"""Running the pieces of a query: in place, or on threads. Results come in the order of the pieces either way."""
