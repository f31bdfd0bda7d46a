"""Conditionals of whole sequences: one site of event shape (length, features)."""
