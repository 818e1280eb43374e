"""Keras' own tests of its optimizers, which come in its wheel, with our classes in place of Keras'."""
