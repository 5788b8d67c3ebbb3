"""What GAN-EM is compared with, in the same run and on the same rows."""

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from skdeepgmm import GaussianMixture
from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.augmentation import Affine, Augmentation
from skdeepgmm._torch_backend.clusterers.consistency import (
    ConsistencyTrainer,
    label_targets,
)
from skdeepgmm._torch_backend.clusterers.gan_em.networks import (
    Architecture,
    initial_classifier,
)
from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm.estimators.clusterers._consistency import config_of
from skdeepgmm.estimators.clusterers.gan_em._settings import (
    GENERATED_AFFINE,
    GENERATED_CUTMIX,
)

#: Labels alone, with the network and the changes of images of our fits.
CHANGED = "labels alone, same network and changes"


def kmeans(n_clusters, seed):
    return KMeans(n_clusters, n_init=10, random_state=seed)


def mixture(n_clusters, seed):
    """Full covariances over the first principal components."""
    flat = GaussianMixture(n_clusters, n_init=10, random_state=seed, reg_covar=1e-4)
    return make_pipeline(PCA(0.9, random_state=seed), flat)


def clustpy_model(name):
    """Return a constructor of VaDE or DEC, None where ClustPy is not installed."""
    try:
        import clustpy.deep
    except ImportError:
        return None
    model = getattr(clustpy.deep, name)
    return lambda n_clusters, seed: model(n_clusters=n_clusters, random_state=seed)


def clusterers():
    """Return {name: constructor of (n_clusters, seed)}."""
    found = {"KMeans": kmeans, "GaussianMixture on PCA": mixture}
    for name in ("VaDE", "DEC"):
        model = clustpy_model(name)
        if model is not None:
            found[f"ClustPy {name}"] = model
    return found


# With labels ---------------------------------------------------------------------


class LabelsOnly:
    """The E-net of GAN-EM, trained on labelled samples alone, augmented as there.

    Parameters
    ----------
    shape : tuple of int
        Image shape.
    n_classes, seed, n_steps : int
    """

    def __init__(self, shape, n_classes, seed, n_steps=3000):
        channels = shape[2] if len(shape) == 3 else 1
        self.shape = (channels, *shape[:2])
        self.n_classes, self.seed, self.n_steps = n_classes, seed, n_steps

    def fit(self, X, y):
        """Train with Adam on batches of 64; rows with y = -1 are left out."""
        rng = new_generator(self.seed)
        made = Architecture(self.shape, self.n_classes, 1, width=0.25)
        self.network = networks.build(made.classifier, rng, gain=networks.TORCH_GAIN)
        optimizer = torch.optim.Adam(self.network.parameters(), 1e-3, (0.5, 0.999))
        known = y >= 0
        rows, labels = self._images(X[known]), torch.tensor(y[known])
        shift, rotation, scale = GENERATED_AFFINE
        affine = Affine(shift * min(self.shape[1:]), rotation, scale)
        augment = Augmentation(affine, GENERATED_CUTMIX)
        for _ in range(self.n_steps):
            index = torch.randint(len(rows), (64,), generator=rng)
            images = augment(rows[index], rng)
            loss = torch.nn.functional.cross_entropy(
                self.network(images), labels[index]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return self

    def predict(self, X):
        """Return classes."""
        found = in_batches(self.network.eval(), self._images(X))
        return found.argmax(1).numpy()

    def _images(self, X):
        channels, height, width = self.shape
        images = torch.tensor(np.asarray(X, dtype=np.float32))
        return images.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


class ChangedLabels:
    """The network of photographs on labelled images alone, changed as with others.

    Parameters
    ----------
    shape : tuple of int
        Image shape.
    n_classes, seed : int
    mirror : bool
        Whether images may be mirrored.
    n_steps : int
        Of 64 images.
    """

    def __init__(self, shape, n_classes, seed, mirror=False, n_steps=1200):
        channels = shape[2] if len(shape) == 3 else 1
        self.shape = (channels, *shape[:2])
        self.n_classes, self.seed, self.n_steps = n_classes, seed, n_steps
        self.mirror = mirror

    def fit(self, X, y):
        """Train as a fit with consistency does; rows with y = -1 are left out."""
        made = Architecture(self.shape, self.n_classes, 1, width=0.25, photo=True)
        rows, device = self._images(X), torch.device("cpu")
        settings = {"mirror": self.mirror, "weight": 0.0, "n_steps": self.n_steps}
        trainer = ConsistencyTrainer(
            initial_classifier(made, self.seed, device),
            rows,
            label_targets(torch.tensor(y), self.n_classes),
            config_of(settings, rows),
            self.seed,
        )
        trainer.fit()
        self.network = trainer.average.module
        return self

    predict, _images = LabelsOnly.predict, LabelsOnly._images


def may_mirror(name):
    """Tell whether the images of a data set keep their class when mirrored."""
    return name.startswith(("celeba", "cifar"))


def classifiers(shape, n_classes, seed, mirror=False):
    """Return {name: classifier}; -1 in y marks unlabelled rows."""
    logistic = LogisticRegression(max_iter=1000)
    components = PCA(50, random_state=seed)
    return {
        "E-net on the labels": LabelsOnly(shape, n_classes, seed),
        CHANGED: ChangedLabels(shape, n_classes, seed, mirror),
        "LabelSpreading": make_pipeline(
            components, LabelSpreading("knn", n_neighbors=7)
        ),
        "SelfTraining": make_pipeline(components, SelfTrainingClassifier(logistic)),
    }
