"""The provider `shmcb`: a cyclic buffer in one mapped file, shared by all processes of a host.

    argument    what the settings say of it, and `create`
    geometry    how a file of some size is divided into sub-caches, and what fits into one
    file        the file: made whole, known again, never a stranger's
    turns       one at a time, of threads and of processes, on the file that has the name now
    layout      the memory of the sub-caches: how each word is read and written
    rings       what is done there: index ring, data ring, checksums, dirty marks
    provider    the contract of `syncstore.cache.api` on all these

It does not outlive the machine's restart, and says so by `persistent`, although its values outlive the service's.
"""

from __future__ import annotations

from syncstore.cache.shmcb.argument import create
from syncstore.cache.shmcb.provider import ShmcbProvider

__all__ = ["ShmcbProvider", "create"]
