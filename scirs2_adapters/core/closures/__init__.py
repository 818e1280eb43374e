"""Optimizers that evaluate the model inside a step: one file for each, and what they share in the files with `_`."""
