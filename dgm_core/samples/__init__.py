"""How close two sets of draws are."""
