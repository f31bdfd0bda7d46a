"""Terms on scores and energies: of densities that are known up to a constant, or by a gradient."""
