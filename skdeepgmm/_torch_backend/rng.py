"""Private random generators: the global torch state is never read nor written."""

import torch


def new_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator on ``device`` started from ``seed``."""
    return torch.Generator(device=device).manual_seed(seed)


def drawn_seed(generator: torch.Generator) -> int:
    """Return a seed drawn from a generator."""
    place = generator.device
    return int(torch.randint(2**31, (1,), generator=generator, device=place))


def rank_generator(shared: torch.Generator, rank: int) -> torch.Generator:
    """Return a generator of a rank's own, on the CPU, from one that all ranks have."""
    return torch.Generator().manual_seed(drawn_seed(shared) + rank)
