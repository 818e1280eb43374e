"""One step of many parameters, whoever takes it: what all executors share."""
