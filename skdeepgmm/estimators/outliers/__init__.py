"""Outliers as the samples of least density."""
