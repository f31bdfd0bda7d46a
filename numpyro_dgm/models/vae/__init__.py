"""Autoencoders: models with an encoder as guide."""
