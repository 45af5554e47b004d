"""Rebuilds and repairs of indexes: how they run, are recorded and are watched."""
