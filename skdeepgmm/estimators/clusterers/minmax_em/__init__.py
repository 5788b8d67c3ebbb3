"""MinMax+EM."""
