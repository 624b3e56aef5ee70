"""A web page and an HTTP API for a fitted model: ``python -m ferpipe.serve MODEL``."""
