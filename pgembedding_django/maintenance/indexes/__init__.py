"""Which indexes of vectors there are, declared and built, and the state of each."""
