"""GAN-EM: networks, losses, training."""
