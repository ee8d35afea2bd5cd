"""Who sends a request: storage tokens, Hawk signatures, and the origin that the client signed."""
