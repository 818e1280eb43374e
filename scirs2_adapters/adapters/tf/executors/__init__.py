"""Ways to step variables: in the operations of `keras.ops`, and by the CPU kernel where the backend lets it run."""
