"""Models of several modalities, and of groups."""
