"""Private tensor engine: pure torch, no scikit-learn.

Estimators call it with tensors, a seed or generator, a device and plain configuration
values; it returns result dataclasses. Nothing in here is public API.
"""
