"""optax's own tests, which come in its wheel, with our factories in place of optax's."""
