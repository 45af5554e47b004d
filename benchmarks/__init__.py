"""Side by side against the peers: `python -m benchmarks`."""
