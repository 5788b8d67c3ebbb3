"""Networks and training of the deep clusterers."""
