"""Terms with a critic, and what critics are made of."""
