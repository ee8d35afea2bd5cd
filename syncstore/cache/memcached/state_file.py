"""The file of `memcached.state = file:/path`: its layout, how it is made and opened, and one record in it.

    header   4096 bytes   magic, version, sizes, identity, inode; checksum
    record   2048 bytes   sequence number, digest of the server's name, two slots; 126 times
    slot      960 bytes   sequence number, epoch, since, reason, by; checksum over these and the digest

A record's sequence number counts its changes, and says which slot holds: that of its lowest bit. A writer fills the
other slot and then counts up, which is one aligned word. So a reader never waits, and needs no lock: what it looks at
is written only after the next change, and then the sequence number and the checksum say so. A writer that is killed
in between leaves a slot that nobody looks at, and that the next one writes anew. Changes are made durable in this
order, too, so a host that loses its power does not go back to an epoch that others have left; and the call that does
it keeps processors from showing the number before the slot.

The kernel shows all processes of one host the same memory, a child after a fork among them; those of another host
it does not. So a network file system is refused. A file that was copied, or restored, knows old epochs: its inode,
which is in the header, tells.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import stat
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final
from zlib import crc32

from syncstore.cache.memcached.records import ServerRecord
from syncstore.errors import Unavailable

VERSION: Final = 1
CAPACITY: Final = 126
"""Servers that a file has room for. Those that are in the settings no more are still in it."""

_MAGIC = b"syncstore states"
_HEADER = struct.Struct("=16sIII32sQ")
_HEADER_SIZE = 4096
_RECORD_SIZE = 2048
SIZE: Final = _HEADER_SIZE + CAPACITY * _RECORD_SIZE
"""Bytes of the file."""

_WORD = 8
_DIGEST_AT, _DIGEST_SIZE = 16, 16
_SLOTS_AT, _SLOT_SIZE = 64, 960
_SLOT = struct.Struct("=QQQHH")
_CHECKSUM = struct.Struct("=I")
_TEXTS_AT = _SLOT.size + _CHECKSUM.size
_UNKNOWN = ServerRecord()

# A reader that meets a change looks again; it would take as many changes in a few microseconds each.
_LOOKS = 100
_LOOK_PAUSE = 0.001  # seconds, after half of them
_OPENINGS = 10

_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "afs", "fuse.sshfs", "fuse.glusterfs"}
_MOUNTS = Path("/proc/self/mountinfo")
_HOW_TO_RENEW = "stop all processes that use it and remove it, and they will make another"


class StateFile:
    """A file that is open and mapped. Once nobody holds it, the mapping is given back.

    `heads` are its words of 8 bytes, of which `known` names those that are sequence numbers: by server, the place of
    its word, the number that was there, and the record of that number.
    """

    def __init__(self, path: str, mapped: mmap.mmap, status: os.stat_result, identity: str) -> None:
        self.path = path
        self.device, self.inode = status.st_dev, status.st_ino
        self.identity = identity
        self.heads = memoryview(mapped).cast("Q")
        self.known: dict[str, tuple[int, int, ServerRecord]] = {}
        self._map = mapped

    def is_at(self, status: os.stat_result) -> bool:
        """Whether a status is this file's, and nobody has cut it."""
        return status.st_ino == self.inode and status.st_dev == self.device and status.st_size == SIZE

    def look(self, server: str) -> ServerRecord:
        """A server's record as it is now. Raises Unavailable."""
        digest = _digest(server)
        start = self._find(digest)
        if start is None:
            return _UNKNOWN
        for attempt in range(_LOOKS):
            sequence = self.heads[start // _WORD]
            record = self._record(start, sequence, digest)
            if record is not None:
                self.known[server] = (start // _WORD, sequence, record)
                return record
            if attempt >= _LOOKS // 2:
                time.sleep(_LOOK_PAUSE)
        raise Unavailable(f"{self.path}: the record of {server} is damaged: {_HOW_TO_RENEW}")

    def change(self, server: str, seen: int, record: ServerRecord) -> bool:
        """Replace a server's record if its epoch is `seen`; whether that was done.

        For one writer at a time, of all processes and threads. Raises Unavailable.
        """
        if self.look(server).epoch != seen:
            return False
        digest = _digest(server)
        start = self._find(digest)
        if start is None:
            start = self._free()
            self.put(start + _DIGEST_AT, digest)
        sequence = self.heads[start // _WORD] + 1
        self.put(_slot_at(start, sequence), _packed(sequence, record, digest))
        try:
            self._map.flush()
            self.switch(start, sequence)
            self._map.flush()
        except OSError as error:
            raise Unavailable(f"{self.path}: {error.strerror}") from error
        return True

    def put(self, place: int, written: bytes) -> None:
        """Write what nobody looks at yet."""
        self._map[place : place + len(written)] = written

    def switch(self, start: int, sequence: int) -> None:
        """Let the record at `start` be what was put into the slot of `sequence`."""
        self.heads[start // _WORD] = sequence

    def _find(self, digest: bytes) -> int | None:
        for start in range(_HEADER_SIZE, SIZE, _RECORD_SIZE):
            if not self.heads[start // _WORD]:
                return None
            if self._map[start + _DIGEST_AT : start + _DIGEST_AT + _DIGEST_SIZE] == digest:
                return start
        return None

    def _free(self) -> int:
        for start in range(_HEADER_SIZE, SIZE, _RECORD_SIZE):
            if not self.heads[start // _WORD]:
                return start
        raise Unavailable(f"{self.path} has room for {CAPACITY} servers, and knows as many: {_HOW_TO_RENEW}")

    def _record(self, start: int, sequence: int, digest: bytes) -> ServerRecord | None:
        """The record of a sequence number, None if another is in its place."""
        place = _slot_at(start, sequence)
        slot = self._map[place : place + _SLOT_SIZE]  # a copy: all that follows is about the same bytes
        found, epoch, since, reason_size, by_size = _SLOT.unpack_from(slot)
        end = _TEXTS_AT + reason_size + by_size
        if (
            found != sequence
            or end > _SLOT_SIZE
            or _CHECKSUM.unpack_from(slot, _SLOT.size)[0] != _checksum(slot, end, digest)
        ):
            return None
        middle = _TEXTS_AT + reason_size
        return ServerRecord(epoch, since, slot[_TEXTS_AT:middle].decode(), slot[middle:end].decode())


def open_state_file(path: str) -> StateFile:
    """The file, made if there is none. Raises Unavailable, with words that say what to do."""
    try:
        for _ in range(_OPENINGS):
            try:
                file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                _make(path)
                continue
            try:
                return _opened(path, file)
            finally:
                os.close(file)  # the mapping has one of its own
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Unavailable(f"{path} is a symbolic link: name the file itself") from error
        raise Unavailable(
            f"{path}: {error.strerror}: the processes must be able to make and write it"
        ) from error
    raise Unavailable(f"{path} is removed as fast as it is made")


def file_system(device: int, mounts: Iterable[str]) -> str:
    """The type of the file system on a device, by the lines of /proc/self/mountinfo; empty if they do not tell."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts:
        fields, _, rest = line.partition(" - ")
        if fields.split()[2:3] == [wanted]:
            return rest.split()[0]
    return ""


def _opened(path: str, file: int) -> StateFile:
    status = os.fstat(file)
    _check(path, status)
    header = os.pread(file, _HEADER_SIZE, 0)
    magic, version, record_size, capacity, identity, inode = _HEADER.unpack_from(header.ljust(_HEADER_SIZE))
    if magic != _MAGIC:
        raise Unavailable(f"{path} holds something else than servers' states: name another file")
    if (version, record_size, capacity) != (VERSION, _RECORD_SIZE, CAPACITY):
        raise Unavailable(f"{path} is of version {version}, not {VERSION}: {_HOW_TO_RENEW}")
    checksum = _CHECKSUM.unpack_from(header, _HEADER.size)[0]
    if checksum != crc32(header[: _HEADER.size]) or status.st_size != SIZE:
        raise Unavailable(f"{path} is damaged: {_HOW_TO_RENEW}")
    if inode != status.st_ino:
        raise Unavailable(f"{path} is a copy, and may know what was true long ago: {_HOW_TO_RENEW}")
    return StateFile(path, mmap.mmap(file, SIZE), status, identity.decode("ascii"))


def _check(path: str, status: os.stat_result) -> None:
    """Raise Unavailable for a file that others may change, or that is not the same for all who open it."""
    if not stat.S_ISREG(status.st_mode):
        raise Unavailable(f"{path} is no file")
    # Root, who is asked to take a server out, opens that of the service.
    if os.geteuid() not in (0, status.st_uid) or status.st_mode & 0o077:
        raise Unavailable(f"{path} must belong to the user that runs the service, and have the mode 0600")
    with suppress(OSError), _MOUNTS.open(errors="replace") as mounts:
        kind = file_system(status.st_dev, mounts)
        if kind in _REMOTE:
            raise Unavailable(f"{path} is on a network file system ({kind}): choose a place such as /run")


def _make(path: str) -> None:
    """Make the file, unless somebody else is faster. It has its name only when it is whole."""
    draft = f"{path}.{secrets.token_hex(8)}"
    file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as output:
            identity = secrets.token_hex(16).encode("ascii")
            inode = os.fstat(file).st_ino
            header = _HEADER.pack(_MAGIC, VERSION, _RECORD_SIZE, CAPACITY, identity, inode)
            # All of it: where the disk is full this fails, and a store into memory would end the process.
            output.write((header + _CHECKSUM.pack(crc32(header))).ljust(SIZE, b"\0"))
            output.flush()
            os.fsync(file)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


def _slot_at(start: int, sequence: int) -> int:
    return start + _SLOTS_AT + (sequence & 1) * _SLOT_SIZE


def _packed(sequence: int, record: ServerRecord, digest: bytes) -> bytes:
    reason, by = record.reason.encode(), record.by.encode()
    head = _SLOT.pack(sequence, record.epoch, record.since, len(reason), len(by))
    texts = reason + by
    return head + _CHECKSUM.pack(crc32(texts, crc32(head, crc32(digest)))) + texts


def _checksum(slot: bytes, end: int, digest: bytes) -> int:
    return crc32(slot[_TEXTS_AT:end], crc32(slot[: _SLOT.size], crc32(digest)))


def _digest(server: str) -> bytes:
    return blake2b(server.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_SIZE).digest()
