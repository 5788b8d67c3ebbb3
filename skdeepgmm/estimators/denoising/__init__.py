"""Image denoising with mixtures of patches."""
