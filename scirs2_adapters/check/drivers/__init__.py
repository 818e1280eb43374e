"""One driver for each framework: how its optimizers are made, stepped, saved and restored."""
