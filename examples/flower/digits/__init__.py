"""A Flower app: clients learn to read digits, each from rows of its own."""
