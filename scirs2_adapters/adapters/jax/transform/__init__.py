"""optax transformations made from rules: `factory` makes them of arguments, `update` is their step, `leaves` is what
they are told of single leaves, `fused` is update and apply in one pass.
"""
