"""Two settings of glibc's allocator for freed memory, one for training, one for servers.

By default glibc returns every large freed block to the kernel and requests it again at
the next training step. On small virtual machines this takes more time than the
arithmetic, so programs that train call :func:`keep_freed_memory`. glibc also gives each
thread a heap of its own, which keeps holes of all sizes: a server whose threads each
read a huge image once would stay large, so it calls :func:`share_freed_memory`. Programs
call one of them once, before torch is loaded; the library never does.
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
    """Make glibc's allocator keep large freed blocks instead of returning them.

    Call it before large arrays are made. Memory use stays at its peak until the
    process ends. Processes started later read the same settings from the environment.

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
    """Make glibc's allocator use one heap for all threads and return large blocks.

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
