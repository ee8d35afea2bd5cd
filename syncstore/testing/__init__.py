"""What proves a back end, shipped with the product: real servers, and suites that any back end must pass.

Nothing is imported here, so that a suite costs only what it needs itself.
"""
