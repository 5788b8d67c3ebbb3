"""Initial responsibilities from features that a network learns of images alone."""

import warnings

from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.self_supervised import ContrastiveTrainer
from skdeepgmm.estimators._base import MAX_SEED
from skdeepgmm.estimators._interruption import part_of_another
from skdeepgmm.estimators.clusterers._consistency import changes_of, settings_of

#: Steps of the features, and their principal components that the mixture sees.
N_STEPS, N_COMPONENTS = 400, 10


def self_supervised_components(estimator, X, preprocessing, random_state):
    """Return the responsibilities of a mixture on contrastive features.

    Parameters
    ----------
    estimator : GANEMClusterer or MinMaxEMClusterer
    X : ndarray or tensor of shape (n_samples, n_features)
    preprocessing : Preprocessing
    random_state : RandomState instance

    Returns
    -------
    ndarray of shape (n_samples, n_clusters)

    Raises
    ------
    ValueError
        If the samples are no images.
    """
    if not preprocessing.image:
        raise ValueError(
            "init='self-supervised' needs images of at least 8 x 8 pixels, but the "
            "samples are vectors. Set image_shape, or init='auto'."
        )
    rows = preprocessing.to_network(X, estimator._device(X))
    if estimator.verbose:
        print(f"Contrastive features of {len(rows)} images: {N_STEPS} steps")
    asked = estimator.consistency
    settings = settings_of("auto" if asked is None else asked)
    _, change = changes_of(settings, rows)
    seed = int(random_state.randint(MAX_SEED))
    trainer = ContrastiveTrainer(rows, change, N_STEPS, seed)
    trainer.fit()
    features = convert.to_numpy(trainer.features().double())
    return _mixture(features, estimator.n_clusters, random_state)


def _mixture(features, n_clusters, random_state):
    """Return the responsibilities of a mixture on the directions of the features."""
    from skdeepgmm import GaussianMixture

    directions = normalize(features - features.mean(axis=0))
    pca = PCA(min(N_COMPONENTS, *directions.shape), random_state=random_state)
    mixture = GaussianMixture(
        n_clusters, n_init=10, random_state=random_state, device="cpu"
    )
    # They would warn of parameters that are not the user's; what becomes of such
    # clusters is reported after the fit.
    with warnings.catch_warnings(), part_of_another():
        warnings.simplefilter("ignore")
        components = pca.fit_transform(directions)
        return mixture.fit(components).predict_proba(components)
