"""The views, by resource: each takes a StorageRequest, calls the storage once, and returns an Answer."""
