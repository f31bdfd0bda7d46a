"""Generators that are trained against a critic."""
