"""The ways a program runs on the host: interpreted by numpy, or compiled. Only this folder knows of numba."""
