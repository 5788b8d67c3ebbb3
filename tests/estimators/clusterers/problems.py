"""Short fits of the deep clusterers, for what holds for both."""

import pytest

from skdeepgmm import GANEMClusterer, MinMaxEMClusterer


def gan_em(n_clusters=2, **params):
    short = {"max_iter": 1, "recipe": {"gan_steps": 5}, "width": 0.1, "random_state": 0}
    return GANEMClusterer(n_clusters, **(short | params))


def minmax_em(n_clusters=2, **params):
    short = {"max_iter": 1, "init_steps": 5, "width": 0.1, "random_state": 0}
    return MinMaxEMClusterer(n_clusters, **(short | params))


both = pytest.mark.parametrize("construct", [gan_em, minmax_em])


def with_fit(model, **members):
    """Return the clusterer, whose fits have these members."""
    model._Fit = type("Fit", (model._Fit,), members)
    return model


def with_trainer(model, **members):
    """Return the clusterer, whose trainers have these members."""
    trainer = type("Trainer", (model._Fit.Trainer,), members)
    return with_fit(model, Trainer=trainer)


def interrupted_once(owner, name):
    """Return a method of the class ``owner`` with Ctrl-C in its first call."""
    plain, calls = getattr(owner, name), []

    def method(self, *args):
        calls.append(name)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return plain(self, *args)

    return method


def interrupt(*args):
    """Ctrl-C in every call."""
    raise KeyboardInterrupt
