"""What glibc's allocator does with freed memory, for the programs to choose.

By default glibc hands every large freed block back to the kernel and asks for it
again at the next training step. On small virtual machines that takes more time than
the arithmetic: programs that train call :func:`keep_freed_memory`. And it gives each
thread a heap of its own, in which blocks of all sizes leave holes: a server whose
threads each read a huge image once would never be small again, and calls
:func:`share_freed_memory`. Both are called once, before torch is loaded; the library
never does so by itself.
"""

import ctypes
import os
import sys

__all__ = ["keep_freed_memory", "share_freed_memory"]

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_ONE_GIBIBYTE = 2**30
_ONE_MEBIBYTE = 2**20


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep large freed blocks instead of returning them.

    Call it before large arrays are made. Memory use stays at its peak for the life of
    the process. Processes started later read the same settings from the environment.

    Returns
    -------
    done : bool
        False where the C library is not glibc; nothing is changed then.
    """
    done = _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _ONE_GIBIBYTE})
    if done:
        os.environ["MALLOC_MMAP_MAX_"] = "0"
        os.environ["MALLOC_TRIM_THRESHOLD_"] = str(_ONE_GIBIBYTE)
    return done


def share_freed_memory() -> bool:
    """Tell glibc's allocator to let threads share one heap and to return large blocks.

    Call it before threads are started. Memory use follows what is in use.

    Returns
    -------
    done : bool
        False where the C library is not glibc; nothing is changed then.
    """
    return _set({_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: _ONE_MEBIBYTE})


def _set(values: dict[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not (hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt")):
        return False
    return all(library.mallopt(name, value) for name, value in values.items())
