"""How a ranking is asked for, and how it runs."""
