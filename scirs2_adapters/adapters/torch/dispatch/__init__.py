"""One step of all parameters: what is stepped, by whom, with which coefficients."""
