"""Ask the Python documentation: an example of vector search with pgembedding_django."""
