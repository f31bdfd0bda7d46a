"""Bounds on the likelihood, and the terms that read one side of them."""
