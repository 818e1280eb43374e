"""A step in a program of JAX: what the adapters for optax and for Keras on JAX share. It needs JAX alone."""
