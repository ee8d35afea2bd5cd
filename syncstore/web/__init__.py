"""HTTP and nothing but HTTP: from the bytes of a request to a call of the storage, and back."""
