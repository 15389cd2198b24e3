"""Microbenchmarks: `python benchmarks/run.py --help`."""
