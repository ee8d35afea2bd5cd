"""Gives the suite its fixtures when it is run from the installed package."""

from syncstore.testing.api_suite.fixtures import FIXTURES

globals().update(FIXTURES)
