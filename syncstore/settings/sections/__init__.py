"""Every key with its type, default and meaning: a module for each thing that they are about.

The table in docs/settings.md comes out of these pages.
"""
