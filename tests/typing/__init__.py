"""A project that uses the package, as its editor and its type checkers see it."""
