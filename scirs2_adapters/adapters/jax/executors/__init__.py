"""The ways to take a step: JAX's own operations, and the primitive that may become the compiled kernel."""
