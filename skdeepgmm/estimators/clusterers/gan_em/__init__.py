"""GAN-EM."""
