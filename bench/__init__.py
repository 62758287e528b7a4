"""Benchmarks: ratios measured in one run on one machine. docs/performance.md keeps them."""
