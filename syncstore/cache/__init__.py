"""Small-object caches: the contract of a provider, and the providers."""
