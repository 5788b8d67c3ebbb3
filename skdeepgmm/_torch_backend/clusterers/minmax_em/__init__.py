"""MinMax+EM: networks, losses, training."""
