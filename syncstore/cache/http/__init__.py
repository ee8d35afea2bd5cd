"""The provider `http`: a cache that another node has mounted (see web/shmap)."""

from __future__ import annotations

from syncstore.cache.http.argument import create

__all__ = ["create"]
