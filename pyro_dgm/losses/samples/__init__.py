"""Terms that compare draws, without a critic."""
