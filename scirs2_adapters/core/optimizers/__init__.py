"""One file, one optimizer. Adding a file here adds the optimizer everywhere."""
