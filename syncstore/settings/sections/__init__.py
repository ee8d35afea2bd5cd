"""The keys of the settings, a module for each thing that they are about."""
