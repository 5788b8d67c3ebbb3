"""Deep convolutional Gaussian mixtures: layers, network, sampling."""
