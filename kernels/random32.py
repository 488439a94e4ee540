"""Random numbers of 32 bits: the same everywhere for the same seed, and cheap to start anew for each tree."""

from __future__ import annotations

from kernels._jit import kernel

WORD = 0xFFFFFFFF


@kernel
def mixed(random: int) -> int:
    """A word of 32 bits that has little in common with the given one."""
    random = ((random ^ (random >> 16)) * 0x45D9F3B) & WORD
    random = ((random ^ (random >> 16)) * 0x45D9F3B) & WORD
    return random ^ (random >> 16)


@kernel
def next_state(random: int) -> int:
    """The state of the random numbers after this one: a counter of 32 bits that jumps."""
    return (random * 747796405 + 2891336453) & WORD


@kernel
def word_of(random: int) -> int:
    """A random number below 2^32 for a state: O'Neill (2014), PCG-RXS-M-XS. Products fit into 63 bits."""
    word = (((random >> ((random >> 28) + 4)) ^ random) * 277803737) & WORD
    return (word >> 22) ^ word


@kernel
def below(random: int, n: int) -> int:
    """A random number from 0 to n - 1."""
    return (word_of(random) * n) >> 32
