"""The memory layout that Python code, the kernels, the driver and the handlers share: words of 64 bits.

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
    REGION = 11  # what calls the worker on threads that there are (`region.ParallelRegion`), or 0 to start some
    MODE = 12  # of the caller's arithmetic, for all threads
    THREADS = 13


class Plan(enum.IntEnum):
    """A pass that a framework calls. Plans are a linked list. What follows on SOURCES is for calls that keep memory:
    how many operands there are, the cells, and the words of the optimizer they belong to.
    """

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
    OPERANDS = 10
    CELLS = 11
    CELL_COUNT = 12
    OWNER = 13


class Source(enum.IntEnum):
    """Where the handler finds one array of a plan: among the operands and the results of the call, or in a cell; -1
    for neither.
    """

    OPERAND = 0
    RESULT = 1
    BYTES = 2
    CELL = 3


class Cell(enum.IntEnum):
    """The memory of one array whose tensors TensorFlow holds: its block, and what a tensor of it is."""

    BLOCK = 0
    BYTES = 1
    DTYPE = 2
    RANK = 3
    SHAPE = 4


class Owner(enum.IntEnum):
    """What all plans of an optimizer share: how many calls are at work, and whether the optimizer is gone."""

    BUSY = 0
    CLOSED = 1


class Block(enum.IntEnum):
    """A piece of memory, and how many hold it: its cell, and each tensor made of it."""

    HOLDERS = 0
    DATA = 1


class Action(enum.IntEnum):
    """What a call of TensorFlow's asks for: a pass; new tensors of all arrays in place of what their variables hold;
    whether nobody else holds a tensor of theirs; new tensors once more, in other memory where somebody does.
    """

    PASS = 0
    RENEW = 1
    CHECK = 2
    UNSHARE = 3


class Anchor(enum.IntEnum):
    """What a handler keeps between calls: the last plan, the text of its error, the size of XLA's frame, and what is
    called when a tensor goes.
    """

    PLAN = 0
    MESSAGE = 1
    FRAME_BYTES = 2
    RELEASE = 3


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
BLOCK_BYTES = WORD_BYTES * len(Block)
MAX_WORKERS = 64
#: In place of a frame's size: the call tells the handler where the anchor's words are.
GREETING = -1
