"""Blocks of adversarial networks, data without pairs."""
