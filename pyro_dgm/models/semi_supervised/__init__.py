"""Models of data and their labels, of which some are missing."""
