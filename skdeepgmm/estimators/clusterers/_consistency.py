"""Consistency on real images: what the parameter means, and the training itself."""

import dataclasses
from numbers import Integral, Real

import numpy as np

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.consistency import (
    ConsistencyConfig,
    ConsistencyTrainer,
    initial_targets,
    learn_from_labels,
)
from skdeepgmm._torch_backend.clusterers.image_changes import (
    polarity_varies,
    strong,
    weak,
)
from skdeepgmm._torch_backend.clusterers.networks import is_large_image
from skdeepgmm._torch_backend.clusterers.preprocessing import network_shape
from skdeepgmm._torch_backend.clusterers.weights import to_arrays
from skdeepgmm.estimators._base import MAX_SEED
from skdeepgmm.estimators._sklearn_compat import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from skdeepgmm.estimators.clusterers._settings import label_counts

_COUNT = Interval(Integral, 1, None, closed="left")
#: What the settings may be.
CONSTRAINTS = {
    "threshold": [Interval(Real, 0, 1, closed="both")],
    "weight": [Interval(Real, 0, None, closed="left")],
    "n_steps": [_COUNT],
    "n_unlabelled": [_COUNT],
    "n_labelled": [_COUNT],
    "alignment": ["boolean"],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "mirror": ["boolean"],
    "invert": [Interval(Real, 0, 1, closed="both"), None],
}
#: For the ``_parameter_constraints`` of the estimators.
PARAMETER = [
    StrOptions({"auto"}),
    Interval(Real, 0, None, closed="left"),
    dict,
    None,
]
#: Share of strongly changed images that are inverted, where both polarities occur.
INVERTED = 0.3
#: Images with more than this share of their values at the smallest one are drawings on
#: an empty ground, which generated images teach as well.
EMPTY_GROUND = 0.65
#: Images that tell what kind they are.
JUDGED_IMAGES = 1000


def is_consistent(estimator, X, labels):
    """Tell whether a fit trains by consistency on real images.

    "auto" does with labels of every cluster, or where ``init`` learns features from
    images, on photographs of at least 16 x 16 pixels.

    Raises
    ------
    ValueError
        If asked for where samples are no images, or with settings that do not exist.
    """
    asked, image_shape = estimator.consistency, estimator.image_shape_
    image = len(network_shape(image_shape, X.shape[1])) == 3
    if asked is None:
        return False
    if not isinstance(asked, str):
        settings_of(asked)
        if not image:
            raise ValueError(
                "consistency must be None or 'auto' for vectors, got "
                f"{asked!r}. Set image_shape if the samples are images of at least 8 x "
                "8 pixels."
            )
        return True
    large = image and is_large_image((1, *image_shape[:2]))
    if not large or is_chosen(estimator.init) != is_self_supervised(estimator):
        return False
    known = label_counts(labels, estimator.n_clusters).min() > 0
    return is_self_supervised(estimator) or (known and not has_empty_ground(X))


def is_chosen(init):
    """Tell whether the user has said how a fit is initialised."""
    return not isinstance(init, str) or init != "auto"


def is_self_supervised(estimator):
    """Tell whether features learned from the images initialise a fit."""
    return isinstance(estimator.init, str) and estimator.init == "self-supervised"


def has_empty_ground(X):
    """Tell whether most values of images are the smallest one."""
    values = convert.to_numpy(X[:JUDGED_IMAGES]) if convert.is_tensor(X) else X
    values = np.asarray(values[:JUDGED_IMAGES])
    return bool((values == values.min()).mean() > EMPTY_GROUND)


def settings_of(asked):
    """Return the settings that differ from the defaults, by name.

    Parameters
    ----------
    asked : "auto", float or dict
        A number is the weight.

    Raises
    ------
    ValueError
        If a setting has an unknown name or a value out of range.
    """
    if isinstance(asked, str):
        return {}
    settings = dict(asked) if isinstance(asked, dict) else {"weight": asked}
    unknown = sorted(map(str, set(settings) - set(CONSTRAINTS)))
    if unknown:
        raise ValueError(
            f"consistency has the unknown settings {unknown}; expected some of "
            f"{sorted(CONSTRAINTS)}."
        )
    validate_parameter_constraints(CONSTRAINTS, settings, "consistency")
    return settings


def changes_of(settings, rows):
    """Return weak and strong changes of images, which stay in the range of all.

    ``mirror`` and ``invert`` are taken from the settings.
    """
    mirror, invert = settings.pop("mirror", False), settings.pop("invert", None)
    if invert is None:
        grey = rows.shape[1] == 1
        invert = INVERTED if grey and polarity_varies(rows[:JUDGED_IMAGES]) else 0.0
    low, high = float(rows.min()), float(rows.max())
    return weak(low, high, mirror), strong(low, high, mirror, invert)


def config_of(asked, rows):
    """Return the ConsistencyConfig for images in the range of the networks."""
    settings = settings_of(asked)
    changes = changes_of(settings, rows)
    weight = float(settings.pop("weight", 1.0))
    return ConsistencyConfig(*changes, weight=weight, **settings)


@dataclasses.dataclass(frozen=True)
class Learned:
    """What a training by consistency leaves.

    Attributes
    ----------
    weights : dict of str to ndarray
        Of the network of logits, averaged over steps.
    resp : ndarray of shape (n_samples, n_clusters)
        Responsibilities of all samples.
    report : dict of str to float
        "weight" of the images without labels; if labels were held out,
        "n_held_out", "mistakes" and "mistakes_alone".
    """

    weights: dict
    resp: np.ndarray
    report: dict


def learned(estimator, make, rows, init_resp, labels, random_state):
    """Train a network of logits on real images.

    Parameters
    ----------
    estimator : GANEMClusterer or MinMaxEMClusterer
    make : callable
        ``make(seed)`` is the network.
    rows : tensor of shape (n_samples, channels, height, width)
    init_resp : ndarray of shape (n_samples, n_clusters) or None
        Where the targets begin if the labels lack a cluster.
    labels : ndarray of shape (n_samples,) or None
        -1 where unknown.
    random_state : RandomState instance
    """
    seed = int(random_state.randint(MAX_SEED))
    config = config_of(estimator.consistency, rows)
    if estimator.verbose:
        print(f"Consistency on real images: {config.n_steps} steps")
    if has_every_cluster(estimator, labels):
        known = convert.index_tensor(labels).to(rows.device)
        trainer, report = learn_from_labels(
            lambda: make(seed), rows, known, estimator.n_clusters, config, seed
        )
    else:
        init_resp = with_labels(init_resp, labels)
        resp = convert.float64_tensor(init_resp, rows.device).float()
        targets = initial_targets(resp)
        trainer = ConsistencyTrainer(make(seed), rows, targets, config, seed)
        trainer.fit()
        report = {"weight": config.weight}
    resp = convert.to_numpy(trainer.responsibilities().double())
    return Learned(to_arrays(trainer.average.module), resp, report)


def has_every_cluster(estimator, labels):
    """Tell whether there are labelled samples of every cluster."""
    return label_counts(labels, estimator.n_clusters).min() > 0


def with_labels(resp, labels):
    """Return responsibilities, certain where a label is known."""
    if labels is None:
        return resp
    known = (labels >= 0)[:, None]
    return np.where(known, np.eye(resp.shape[1])[labels], resp)


def to_tree(found):
    """Return what was learned for a checkpoint; None for nothing."""
    return None if found is None else dict(vars(found))


def from_tree(tree):
    """Return what was learned from a checkpoint."""
    return None if tree is None else Learned(**tree)
