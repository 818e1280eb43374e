"""The memory layout that Python code, the kernels, the driver and the XLA handler share: words of 64 bits.

Compiled code has these numbers in it, so the text of this file is part of the name of its cached object code.
"""

from __future__ import annotations

import enum

WORD_BYTES = 8


class Item(enum.IntEnum):
    """A work item: a stretch of one tensor, or rows of one of its matrices."""

    TENSOR = 0
    OFFSET = 1  # of the first element
    ROWS = 2
    COLUMNS = 3
    ROW = 4  # the first row, counted over all matrices of the tensor
    BATCH = 5  # which matrix of the tensor
    COEFFICIENT_ROW = 6
    OUT = 7  # where its sums go


class Work(enum.IntEnum):
    """What the driver is called with. From THREADS on follow the handles of its threads and then, for each, how many
    items of its share have been taken.
    """

    KERNEL = 0
    TABLE = 1  # of addresses: a row for each tensor, a column for each array
    TABLE_STRIDE = 2
    ITEMS = 3
    COUNT = 4
    COEFFICIENTS = 5
    COEFFICIENT_STRIDE = 6
    OUT = 7
    NEXT_WORKER = 8  # counted up by the threads
    WORKERS = 9
    WORKER = 10
    THREADS = 11


class Plan(enum.IntEnum):
    """A pass that XLA calls. Plans are a linked list."""

    NAME = 0
    NEXT = 1
    DRIVE = 2
    WORK = 3  # what the driver is called with, but for the addresses of a call
    WORK_BYTES = 4
    TENSORS = 5
    ARRAYS = 6
    SUMS = 7
    WIDE = 8  # whether sums are returned in float64
    SOURCES = 9


class Source(enum.IntEnum):
    """Where the handler finds one array of a plan: among the operands and the results of the call, -1 for neither."""

    OPERAND = 0
    RESULT = 1
    BYTES = 2


class Anchor(enum.IntEnum):
    """What the handler keeps between calls: the last plan, the text of its error, the size of XLA's frame."""

    PLAN = 0
    MESSAGE = 1
    FRAME_BYTES = 2


class Frame(enum.IntEnum):
    """XLA's call frame, by XLA's C ABI."""

    BYTES = 0
    EXTENSION = 1
    API = 2
    STAGE = 4
    OPERANDS = 9
    RESULTS = 14
    ATTRIBUTES = 20


ITEM_BYTES = WORD_BYTES * len(Item)
SOURCE_BYTES = WORD_BYTES * len(Source)
MAX_WORKERS = 64
#: In place of a frame's size: the call tells the handler where the anchor's words are.
GREETING = -1
