"""Patch priors and image restoration (EPLL)."""
