"""Flat Gaussian mixtures: densities, EM, stochastic gradients."""
