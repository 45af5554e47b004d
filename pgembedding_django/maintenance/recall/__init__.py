"""How many of the nearest rows an index finds, and which options find more."""
