"""What is decided before a step, and the step itself as one compiled function."""
