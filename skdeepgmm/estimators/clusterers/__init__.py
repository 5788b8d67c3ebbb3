"""Deep clusterers: GAN-EM and MinMax+EM."""
