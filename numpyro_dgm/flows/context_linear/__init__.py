"""Flows whose few parameters are linear in the context."""
