"""Checks of anyone's optimizer, behind `scirs2 check` and the pytest option `--scirs2-check`."""
