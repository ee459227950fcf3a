"""Speed of distclust beside its peers. Run it with ``python -m benchmarks``; not installed."""
