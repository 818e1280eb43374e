"""One folder per framework, a room, all with the same file names. A room loads its own framework and no other's."""

from scirs2_adapters.adapters._names import rooms

__all__ = ["rooms"]
