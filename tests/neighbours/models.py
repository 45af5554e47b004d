"""Empty, so that Django makes the tables of this app: each module of tests holds its own models."""
