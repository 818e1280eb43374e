"""How fast an optimizer step is, as a ratio to the framework's own. `make bench`, or `python -m benchmarks`."""
