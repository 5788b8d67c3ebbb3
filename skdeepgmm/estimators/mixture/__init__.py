"""Flat Gaussian mixtures: exact EM and stochastic gradients."""
