"""The kernel of TensorFlow's op, compiled by numba: reads a call through TensorFlow's C interface, gathers addresses,
runs the driver.

It runs on a thread of TensorFlow's without python's lock: no object, no exception, no numba runtime. Memory that it
makes is counted by its holders, and a tensor made of it tells when it goes: what somebody still looks at is not written
to.
"""

from __future__ import annotations

from numba import types

from .foreign_calls import copy, find, free, malloc, new_work, part, run
from .intrinsics import anchor, atomic_change, load_i64, store_i64
from .layout import (
    BLOCK_BYTES,
    GREETING,
    SOURCE_BYTES,
    WORD_BYTES,
    Action,
    Anchor,
    Block,
    Cell,
    Owner,
    Plan,
    Source,
    Work,
)

_I = types.intp
_get_input = types.ExternalFunction("TF_GetInput", types.void(_I, types.int32, _I, _I))
_set_output = types.ExternalFunction("TF_SetOutput", types.void(_I, types.int32, _I, _I))
_allocate_output = types.ExternalFunction(
    "TF_AllocateOutput", _I(_I, types.int32, types.int32, _I, types.int32, _I, _I)
)
_new_tensor = types.ExternalFunction("TF_NewTensor", _I(types.int32, _I, types.int32, _I, _I, _I, _I))
_delete_tensor = types.ExternalFunction("TF_DeleteTensor", types.void(_I))
_data = types.ExternalFunction("TF_TensorData", _I(_I))
_byte_size = types.ExternalFunction("TF_TensorByteSize", _I(_I))
_new_status = types.ExternalFunction("TF_NewStatus", _I())
_delete_status = types.ExternalFunction("TF_DeleteStatus", types.void(_I))
_set_status = types.ExternalFunction("TF_SetStatus", types.void(_I, types.int32, _I))
_fail = types.ExternalFunction("TF_OpKernelContext_Failure", types.void(_I, _I))
_aligned = types.ExternalFunction("posix_memalign", types.int32(_I, _I, _I))

#: TensorFlow's numbers for dtypes and for errors, and how it wants memory aligned.
FLOAT, DOUBLE, BOOL, FAILED_PRECONDITION, ALIGNMENT = 1, 2, 10, 9, 64


@part
def _tensor(context, index, status):  # type: ignore[no-untyped-def]
    """An input of the call, to be deleted."""
    place = malloc(WORD_BYTES)
    store_i64(place, 0, 0)
    _get_input(context, index, place, status)
    tensor = load_i64(place, 0)
    free(place)
    return tensor


@part
def _new_block(cell):  # type: ignore[no-untyped-def]
    """Memory for the array of a cell, held by the cell; 0 if there is none left."""
    block = malloc(BLOCK_BYTES)
    size = max(load_i64(cell, Cell.BYTES), ALIGNMENT)
    if block != 0 and _aligned(block + Block.DATA * WORD_BYTES, ALIGNMENT, size) != 0:
        free(block)
        block = 0
    if block != 0:
        store_i64(block, Block.HOLDERS, 1)
    return block


@part
def _drop(block):  # type: ignore[no-untyped-def]
    """One holder less."""
    if block != 0 and atomic_change(block, Block.HOLDERS, -1) == 1:
        free(load_i64(block, Block.DATA))
        free(block)


@part
def _give(context, index, cell, release, status):  # type: ignore[no-untyped-def]
    """Makes a tensor of a cell's block an output of the call."""
    block = load_i64(cell, Cell.BLOCK)
    atomic_change(block, Block.HOLDERS, 1)
    shape, rank = load_i64(cell, Cell.SHAPE), load_i64(cell, Cell.RANK)
    dtype, size = load_i64(cell, Cell.DTYPE), load_i64(cell, Cell.BYTES)
    tensor = _new_tensor(dtype, shape, rank, load_i64(block, Block.DATA), size, release, block)
    _set_output(context, index, tensor, status)
    _delete_tensor(tensor)


@part
def _cell(plan, index):  # type: ignore[no-untyped-def]
    return load_i64(load_i64(plan, Plan.CELLS), index)


@part
def _gather(plan, inputs, table):  # type: ignore[no-untyped-def]
    """The address of each array; returns whether all have one."""
    for i in range(load_i64(plan, Plan.TENSORS) * load_i64(plan, Plan.ARRAYS)):
        source = load_i64(plan, Plan.SOURCES) + i * SOURCE_BYTES
        operand = load_i64(source, Source.OPERAND)
        if operand >= 0:
            address = _data(load_i64(inputs, operand))
        else:
            block = load_i64(_cell(plan, load_i64(source, Source.CELL)), Cell.BLOCK)
            if block == 0:
                return False
            address = load_i64(block, Block.DATA)
        store_i64(table, i, address)
    return True


@part
def _new_sums(plan, context, status):  # type: ignore[no-untyped-def]
    """The output of a pass that makes sums: a row for each tensor."""
    tensors, sums, dtype, width = load_i64(plan, Plan.TENSORS), load_i64(plan, Plan.SUMS), FLOAT, 4
    if load_i64(plan, Plan.WIDE) != 0:
        dtype, width = DOUBLE, 8
    shape = malloc(2 * WORD_BYTES)
    store_i64(shape, 0, tensors)
    store_i64(shape, 1, sums)
    output = _allocate_output(context, 0, dtype, shape, 2, width * tensors * sums, status)
    free(shape)
    return output


@part
def _pass(plan, context, status):  # type: ignore[no-untyped-def]
    """Runs a pass; returns whether it could."""
    operands, output, sums = load_i64(plan, Plan.OPERANDS), 0, 0
    inputs, work = malloc(WORD_BYTES * operands), new_work(plan)
    for i in range(operands):
        store_i64(inputs, i, _tensor(context, 1 + i, status))
    done = _gather(plan, inputs, load_i64(work, Work.TABLE))
    if load_i64(plan, Plan.SUMS) > 0:
        output = _new_sums(plan, context, status)
        sums = _data(output)
    if done:
        run(plan, work, _data(load_i64(inputs, 0)), sums)
    if output != 0:
        _delete_tensor(output)
    for i in range(operands):
        _delete_tensor(load_i64(inputs, i))
    free(inputs)
    free(work)
    return done


@part
def _moved(cell, tensor):  # type: ignore[no-untyped-def]
    """Takes the numbers of a tensor over into a block that only the cell holds; returns whether it could."""
    block, size = load_i64(cell, Cell.BLOCK), load_i64(cell, Cell.BYTES)
    if block != 0 and atomic_change(block, Block.HOLDERS, 0) != 1:
        _drop(block)
        block = 0
    if block == 0:
        block = _new_block(cell)
        store_i64(cell, Cell.BLOCK, block)
    if block == 0 or _byte_size(tensor) != size:
        return False
    if size > 0:
        copy(load_i64(block, Block.DATA), _data(tensor), size)
    return True


@part
def _renew(plan, context, release, status, shared):  # type: ignore[no-untyped-def]
    """Gives each variable a new tensor of its cell's block, into which the numbers are taken over if the variable holds
    other memory, or where somebody else looks at the block, if `shared` ones are asked for.
    """
    done = True
    for i in range(load_i64(plan, Plan.CELL_COUNT)):
        cell, tensor = _cell(plan, i), _tensor(context, 1 + i, status)
        block = load_i64(cell, Cell.BLOCK)
        in_block = block != 0 and load_i64(block, Block.DATA) == _data(tensor)
        if in_block and shared:
            in_block = atomic_change(block, Block.HOLDERS, 0) == 2
        if not in_block and not _moved(cell, tensor):
            done = False
        if done:
            _give(context, i, cell, release, status)
        _delete_tensor(tensor)
    return done


@part
def _check(plan, context, status):  # type: ignore[no-untyped-def]
    """Answers whether each block is held only by its cell and its variable."""
    words = malloc(WORD_BYTES)
    output = _allocate_output(context, 0, BOOL, words, 0, 1, status)
    answer = 1
    for i in range(load_i64(plan, Plan.CELL_COUNT)):
        block = load_i64(_cell(plan, i), Cell.BLOCK)
        if block == 0 or atomic_change(block, Block.HOLDERS, 0) != 2:
            answer = 0
    store_i64(words, 0, answer)  # its first byte, where the lowest comes first
    copy(_data(output), words, 1)
    free(words)
    _delete_tensor(output)
    return True


@part
def _act(plan, action, context, release, status):  # type: ignore[no-untyped-def]
    done, owner = False, load_i64(plan, Plan.OWNER)
    if atomic_change(owner, Owner.BUSY, 1) == 0 and load_i64(owner, Owner.CLOSED) == 0:
        if action == Action.PASS:
            done = _pass(plan, context, status)
        elif action == Action.CHECK:
            done = _check(plan, context, status)
        else:
            done = _renew(plan, context, release, status, action == Action.UNSHARE)
    atomic_change(owner, Owner.BUSY, -1)
    return done


def handler(kernel, context):  # type: ignore[no-untyped-def]
    """The kernel itself: `kernel` is nothing, `context` TensorFlow's of this call."""
    home = anchor()
    if kernel == GREETING:
        store_i64(home, 0, context)
        return 0
    home, status = load_i64(home, 0), _new_status()
    call = _tensor(context, 0, status)
    plan, action = find(load_i64(home, Anchor.PLAN), load_i64(_data(call), 0)), load_i64(_data(call), 1)
    _delete_tensor(call)
    done = False
    if plan != 0:
        done = _act(plan, action, context, load_i64(home, Anchor.RELEASE), status)
    if not done:
        _set_status(status, FAILED_PRECONDITION, load_i64(home, Anchor.MESSAGE))
        _fail(context, status)
    _delete_status(status)
    return 0


def release(data, size, block):  # type: ignore[no-untyped-def]
    """What TensorFlow calls when a tensor of a block goes."""
    _drop(block)
    return data - data + size - size


def close(owner):  # type: ignore[no-untyped-def]
    """Ends the calls of an optimizer that is gone; returns how many are at work."""
    store_i64(owner, Owner.CLOSED, 1)
    return atomic_change(owner, Owner.BUSY, 0)


def empty(cell):  # type: ignore[no-untyped-def]
    """Lets go of a cell's block."""
    _drop(load_i64(cell, Cell.BLOCK))
    store_i64(cell, Cell.BLOCK, 0)
    return 0
