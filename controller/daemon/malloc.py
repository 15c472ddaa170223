"""Limits the free memory that glibc's malloc keeps instead of returning it to the system.

Creating a thousand guests fragments the heap, and each thread's arena keeps its own free memory; a
daemon that then only watches would hold twice what it needs for weeks. With another C library than
glibc these functions do nothing.
"""

import ctypes

_ARENA_MAX, _MMAP_THRESHOLD = -8, -3  # of mallopt(3)
_LIBC = ctypes.CDLL(None)


def be_frugal(arenas: int = 2, mapped: int = 65536) -> None:
    """Use at most ``arenas`` heaps for all threads, and mmap for blocks from ``mapped`` bytes on.

    Call it before any thread is started (mallopt(3)).
    """
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_ARENA_MAX, arenas)
        _LIBC.mallopt(_MMAP_THRESHOLD, mapped)


def trim() -> None:
    """Return free pages at the end of and within the heaps to the system (malloc_trim(3))."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
