"""Chaos tests at full length: `python -m benchmarks.chaos`."""
