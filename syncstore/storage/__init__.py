"""Where users' collections are kept: the interface in `api`, the stores beside it."""
