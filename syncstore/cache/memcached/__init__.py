"""The cache provider `memcached`, and the only door to pymemcache."""
