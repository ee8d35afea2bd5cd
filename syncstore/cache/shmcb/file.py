"""The file of a cyclic buffer: made whole under its name, known again, and never a stranger's.

Its header says of which geometry it is, from which boot of the machine, and its own inode. A file of an earlier boot
was in memory when the machine went down, so nobody knows what of it reached the disk; a copy would give numbers again
that were given before. Both are ours and worth nothing: they are replaced. The salt makes places of keys that nobody
outside can foresee, or choose so that they meet.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from syncstore.cache.api import BackendUnavailable
from syncstore.cache.memcached.state_file import file_system
from syncstore.cache.shmcb.geometry import HEADER_SIZE, Geometry
from syncstore.cache.shmcb.layout import new_state
from syncstore.cache.shmcb.rings import Rings

VERSION: Final = 1

_MAGIC = b"syncstore shmcb\n"
_HEAD = struct.Struct("=16sI")
_HEADER = struct.Struct("=16sIQQQ16s36s")
_CHECKSUM = struct.Struct("=I")
_WANTED_AT = HEADER_SIZE // 8 - 1  # in words of 8 bytes
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MOUNTS = Path("/proc/self/mountinfo")
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "afs", "fuse.sshfs", "fuse.glusterfs"}


class CacheFile:
    """A file that is mapped. `lock` is a descriptor on which processes take turns by flock.

    A mapping keeps a descriptor of its own, which a forked child may be unable to close. So `lock` is of a file
    description that nothing else shares, and the child closes it: or else it would go on holding its killed parent's
    lock.
    """

    def __init__(
        self, lock: int, mapped: mmap.mmap, status: os.stat_result, geometry: Geometry, salt: bytes
    ) -> None:
        self.lock = lock
        self.geometry = geometry
        self.limits = geometry.limits
        self.rings = Rings(mapped, geometry, salt)
        self._device, self._inode = status.st_dev, status.st_ino
        self._map = mapped
        self._words = memoryview(mapped)[:HEADER_SIZE].cast("Q")

    def is_at(self, status: os.stat_result) -> bool:
        """Whether a status is this file's, and nobody has cut it: the kernel kills who reads beyond its end."""
        return (
            status.st_ino == self._inode
            and status.st_dev == self._device
            and status.st_size == self.geometry.size
        )

    @property
    def wanted(self) -> bool:
        """Whether somebody, of any process, waits for a turn: a hint, which may be old."""
        return bool(self._words[_WANTED_AT])

    @wanted.setter
    def wanted(self, wanted: bool) -> None:
        self._words[_WANTED_AT] = wanted

    def close(self) -> None:
        """Give back the mapping; the descriptor is its owner's."""
        self._words.release()
        self.rings.close()
        self._map.close()


class Header(NamedTuple):
    """What a file says of itself."""

    geometry: Geometry
    salt: bytes


class Unfit(NamedTuple):
    """The file is ours, and why it cannot be used. `elsewhere`: a program of another version can use it."""

    reason: str
    elsewhere: bool = False


def open_lock(path: str) -> int:
    """A descriptor of the file that has the name. Raises FileNotFoundError and other OSErrors."""
    return os.open(path, _OPEN)


def open_map(path: str, lock: int, header: Header) -> CacheFile | None:
    """The file on which `lock` is open, mapped; None if the name is another's by now. Raises OSError."""
    file = os.open(path, _OPEN)
    try:
        status = os.fstat(file)
        if not os.path.samestat(status, os.fstat(lock)) or status.st_size != header.geometry.size:
            return None
        return CacheFile(lock, mmap.mmap(file, header.geometry.size), status, *header)
    finally:
        os.close(file)


def read_header(path: str, file: int) -> Header | Unfit:
    """The header of an open file. Raises BackendUnavailable for a stranger's, OSError."""
    status = os.fstat(file)
    _check(path, status)
    text = os.pread(file, HEADER_SIZE, 0).ljust(HEADER_SIZE, b"\0")
    magic, version = _HEAD.unpack_from(text)
    if magic != _MAGIC:
        raise BackendUnavailable(
            f"{path} holds something else than a cache of this provider: name another file"
        )
    if version != VERSION:
        return Unfit(f"is of version {version}, not {VERSION}", elsewhere=True)
    _, _, size, item_size, inode, salt, boot = _HEADER.unpack_from(text)
    if _CHECKSUM.unpack_from(text, _HEADER.size)[0] != crc32(text[: _HEADER.size]) or status.st_size != size:
        return Unfit("is damaged")
    if inode != status.st_ino or boot != _boot_id():
        return Unfit("is a copy, or of an earlier boot")
    return Header(Geometry.of(size, item_size), salt)


def make(path: str, geometry: Geometry) -> None:
    """Make a file, unless somebody else is faster. Raises OSError."""

    def publish(draft: str) -> None:
        with suppress(FileExistsError):
            os.link(draft, path)
        os.unlink(draft)

    _make(path, geometry, publish)


def replace(path: str, geometry: Geometry) -> None:
    """Put a new file into the place of one of ours, whose lock the caller has. Raises OSError."""
    _make(path, geometry, lambda draft: os.rename(draft, path))


def unavailable(path: str, error: OSError) -> BackendUnavailable:
    """What an error about the file is to who asked the cache."""
    if error.errno == errno.ELOOP:
        return BackendUnavailable(f"{path} is a symbolic link: name the file itself")
    return BackendUnavailable(
        f"{path}: {error.strerror}: the service must be able to make and write it, in a folder that exists"
    )


def _make(path: str, geometry: Geometry, publish: Callable[[str], None]) -> None:
    """Make a file that has its name only once it is whole."""
    draft = f"{path}.{secrets.token_hex(8)}"
    file = os.open(draft, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        # All of it: where the disk is full this fails, and a store into memory would end the process.
        os.posix_fallocate(file, 0, geometry.size)
        os.pwrite(file, _packed_header(geometry, os.fstat(file).st_ino), 0)
        for number in range(geometry.sub_caches):
            os.pwrite(file, new_state(), HEADER_SIZE + number * geometry.sub_size)
        publish(draft)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise
    finally:
        os.close(file)


def _packed_header(geometry: Geometry, inode: int) -> bytes:
    salt = secrets.token_bytes(16)
    header = _HEADER.pack(_MAGIC, VERSION, geometry.size, geometry.item_size, inode, salt, _boot_id())
    return header + _CHECKSUM.pack(crc32(header))


def _boot_id() -> bytes:
    """What tells this boot of the machine from others; zeros where nothing does."""
    try:
        return _BOOT_ID.read_bytes().strip()[:36].ljust(36, b"\0")
    except OSError:
        return bytes(36)


def _check(path: str, status: os.stat_result) -> None:
    """Raise BackendUnavailable for a file that others may change, or that is not the same for all who open it."""
    if not stat.S_ISREG(status.st_mode):
        raise BackendUnavailable(f"{path} is no file")
    # Root, who may look at what the service has, opens that of the service.
    if os.geteuid() not in (0, status.st_uid) or status.st_mode & 0o077:
        raise BackendUnavailable(
            f"{path} must belong to the user that runs the service, and have the mode 0600"
        )
    with suppress(OSError), _MOUNTS.open(errors="replace") as mounts:
        kind = file_system(status.st_dev, mounts)
        if kind in _REMOTE:
            raise BackendUnavailable(
                f"{path} is on a network file system ({kind}): choose a place such as /run"
            )
