"""Deep convolutional Gaussian mixtures of images."""
