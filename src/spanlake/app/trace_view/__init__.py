"""A trace as people read it in a terminal: answer bytes to spans (`read`), spans to a forest (`tree`), forest to lines (`view`)."""
