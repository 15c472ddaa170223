"""Gives back to the system the memory that glibc would keep for later.

Making a thousand guests leaves the heap full of holes, and each thread's arena keeps its own; a
daemon that then only watches would hold twice what it needs for weeks. Where the C library is not
glibc there is nothing to do.
"""

import ctypes

_ARENA_MAX, _MMAP_THRESHOLD = -8, -3  # of mallopt(3)
_LIBC = ctypes.CDLL(None)


def be_frugal(arenas: int = 2, mapped: int = 65536) -> None:
    """At most ``arenas`` heaps for all threads; blocks from ``mapped`` bytes on outside of them.

    To be called before the threads are made.
    """
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_ARENA_MAX, arenas)
        _LIBC.mallopt(_MMAP_THRESHOLD, mapped)


def trim() -> None:
    """malloc_trim(3): free pages at and within the heaps go back to the system."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
