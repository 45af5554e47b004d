"""The sections of the Python documentation, and the search in them."""
