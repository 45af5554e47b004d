"""Which HNSW indexes there are, declared and built, and the state of each."""
