"""Energies of data, of data and labels, and of binary units."""
