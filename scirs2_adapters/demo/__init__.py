"""The demo: the same optimizer trains real models in five frameworks and walks the same path. `scirs2 demo` runs it."""
