"""Optimizer state in files of torch's and of DeepSpeed's, in and out.

`state_dicts` reads state dicts and writes them, `universal` makes one of a folder of DeepSpeed's, `loading` loads a
file without running what is in it, and `streaming` writes one tensor at a time.
"""

from .state_dicts import read, write

__all__ = ["read", "write"]
