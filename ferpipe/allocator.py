"""Keep freed memory in the process: what makes training fast under glibc.

By default glibc hands every large freed block back to the kernel and asks for it
again at the next training step. On small virtual machines that takes more time than
the arithmetic. Programs call :func:`keep_freed_memory` once, before they load torch;
the library never does so by itself.
"""

import ctypes
import os
import sys

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_ONE_GIBIBYTE = 2**30


def keep_freed_memory():
    """Tell glibc's allocator to keep large freed blocks instead of returning them.

    Call it before large arrays are made. Memory use stays at its peak for the life of
    the process. Processes started later read the same settings from the environment.

    Returns
    -------
    done : bool
        False where the C library is not glibc; nothing is changed then.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not (hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt")):
        return False
    os.environ["MALLOC_MMAP_MAX_"] = "0"
    os.environ["MALLOC_TRIM_THRESHOLD_"] = str(_ONE_GIBIBYTE)
    return bool(library.mallopt(_M_MMAP_MAX, 0)) and bool(
        library.mallopt(_M_TRIM_THRESHOLD, _ONE_GIBIBYTE)
    )
