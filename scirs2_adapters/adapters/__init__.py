"""One folder per framework, an adapter, all with the same file names. An adapter loads its own framework and no
other's.
"""

from scirs2_adapters.adapters._names import adapters

__all__ = ["adapters"]
