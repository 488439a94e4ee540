"""Machine operations on 64-bit words that numba has no function for.

Each has a plain Python twin that takes its place when the JIT is off, so that the kernels also run interpreted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels._jit import U8

_MASK = (1 << 64) - 1


def _multiply(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    product = int(a) * int(b)
    return np.uint64(product >> 64), np.uint64(product & _MASK)


def _zeros(a: np.uint64) -> np.uint64:
    return np.uint64(64 - int(a).bit_length())


def _to_double(a: np.uint64) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", int(a)))[0])


def _to_bits(a: float) -> np.uint64:
    return np.uint64(struct.unpack("<Q", struct.pack("<d", a))[0])


def _load(data: U8, at: int) -> np.uint64:
    if not 0 <= at <= data.size - 8:
        raise IndexError(f"eight bytes at {at} of {data.size}")
    return np.uint64(int.from_bytes(data[at : at + 8].tobytes(), "little"))


def _trailing(a: np.uint64) -> np.uint64:
    value = int(a)
    return np.uint64((value & -value).bit_length() - 1 if value else 64)


def _ir_multiply(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    wide = ir.IntType(128)
    product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
    high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))
    return context.make_tuple(builder, signature.return_type, (high, builder.trunc(product, ir.IntType(64))))


def _ir_zeros(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))


def _ir_trailing(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))


def _ir_to_double(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.bitcast(args[0], ir.DoubleType())


def _ir_to_bits(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.bitcast(args[0], ir.IntType(64))


def _ir_load(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    pointer = builder.bitcast(builder.gep(array.data, [args[1]]), ir.IntType(64).as_pointer())
    word = builder.load(pointer)
    word.align = 1
    return word


_PAIR = types.UniTuple(types.uint64, 2)


def _native(typing: Callable[..., Any]) -> Any:
    """An intrinsic from its typing function, which numba wants with the kernel's argument names."""
    return intrinsic(typing)


multiply_wide: Callable[[np.uint64, np.uint64], tuple[np.uint64, np.uint64]]
leading_zeros: Callable[[np.uint64], np.uint64]
trailing_zeros: Callable[[np.uint64], np.uint64]
double_of_bits: Callable[[np.uint64], float]
bits_of_double: Callable[[float], np.uint64]
load_word: Callable[[U8, int], np.uint64]

if numba.config.DISABLE_JIT:
    multiply_wide, leading_zeros, trailing_zeros = _multiply, _zeros, _trailing
    double_of_bits, bits_of_double, load_word = _to_double, _to_bits, _load
else:
    # (high, low) words of the 128-bit product.
    multiply_wide = _native(lambda context, a, b: (_PAIR(types.uint64, types.uint64), _ir_multiply))
    # Zero bits above the highest set bit; 64 for 0.
    leading_zeros = _native(lambda context, a: (types.uint64(types.uint64), _ir_zeros))
    # Zero bits below the lowest set bit; 64 for 0.
    trailing_zeros = _native(lambda context, a: (types.uint64(types.uint64), _ir_trailing))
    double_of_bits = _native(lambda context, a: (types.float64(types.uint64), _ir_to_double))
    bits_of_double = _native(lambda context, a: (types.uint64(types.float64), _ir_to_bits))
    # Little-endian word at any alignment. Not checked: the caller knows that data[at : at + 8] exists.
    load_word = _native(lambda context, data, at: (types.uint64(data, types.int64), _ir_load))
