"""optax transformations made from rules: `factory` makes them, `update` is their step, `fused` is update and apply in
one pass.
"""
