"""Private random generators: the global torch state is never read nor written."""

import torch


def new_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator on ``device`` started from ``seed``."""
    return torch.Generator(device=device).manual_seed(seed)
