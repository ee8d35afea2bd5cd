"""The scripts that change a key in Redis if it is in the expected state: each runs alone there (see `envelope`)."""

from __future__ import annotations

from hashlib import sha1
from typing import Final


class Script:
    """A script and its name in Redis."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest().encode()


# Needs KEYS[1], and as ARGV[1] the mark of this life and as ARGV[2] the time. Redis may be asked for a head of what is
# no string, and then answers with an error.
_LIVE: Final = """
local head = redis.call('GETRANGE', KEYS[1], 0, 23)
local live = false
if #head == 24 and string.sub(head, 1, 8) == ARGV[1] then
  local expires = struct.unpack('>d', string.sub(head, 17, 24))
  live = expires == 0 or expires > struct.unpack('>d', ARGV[2])
end
"""

_PUT: Final = """
if ARGV[4] == '' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PXAT', ARGV[4])
end
"""

DONE: Final = 1
CONFLICT: Final = 0
NOT_FOUND: Final = -1

STORE: Final = Script(
    _LIVE
    + """
if ARGV[5] == 'none' then
  if live then return 0 end
elseif not live or string.sub(head, 9, 16) ~= ARGV[5] then
  return 0
end
"""
    + _PUT
    + "return 1"
)
"""Stores ARGV[3] until ARGV[4], in milliseconds or empty, over the number ARGV[5], or with 'none' where nothing is."""

REMOVE: Final = Script(
    _LIVE
    + """
if not live then return -1 end
if ARGV[3] ~= 'any' and string.sub(head, 9, 16) ~= ARGV[3] then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""
)
"""Removes what has the number ARGV[3], or 'any'."""

RESERVE: Final = Script(_LIVE + "if live then return redis.call('GET', KEYS[1]) end" + _PUT + "return false")
"""What is there; or nothing, and from then on the placeholder ARGV[3], until ARGV[4]."""

SWEEP: Final = Script(
    """
local swept = 0
for _, key in ipairs(KEYS) do
  if redis.call('TYPE', key).ok == 'string' and redis.call('GETRANGE', key, 0, 7) ~= ARGV[1] then
    swept = swept + redis.call('DEL', key)
  end
end
return swept
"""
)
"""Removes those of some keys that are not of this life; how many."""

ALL: Final = (STORE, REMOVE, RESERVE, SWEEP)
