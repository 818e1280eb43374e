"""Optimizers whose step depends on the loss: one file for each, and what they share in the files with `_`."""
