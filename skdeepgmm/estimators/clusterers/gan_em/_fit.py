"""One call of ``GANEMClusterer.fit``: initialization, restarts, attributes."""

from functools import partial

from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.clusterers.gan_em.networks import (
    Architecture,
    initial_classifier,
)
from skdeepgmm._torch_backend.clusterers.gan_em.trainer import GANEM
from skdeepgmm._torch_backend.clusterers.kernel_density import generated_kernels
from skdeepgmm._torch_backend.clusterers.selection import random_rows, selection_score
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm.estimators._base import MAX_SEED
from skdeepgmm.estimators._checkpoint import random_state_tree, set_random_state
from skdeepgmm.estimators._jobs import jobs_of, rounds_of, side_by_side
from skdeepgmm.estimators._warnings import warn_caller
from skdeepgmm.estimators.clusterers._base import restored
from skdeepgmm.estimators.clusterers._consistency import from_tree, to_tree
from skdeepgmm.estimators.clusterers._fit import ClustererFit
from skdeepgmm.estimators.clusterers._init_responsibilities import (
    initial_responsibilities,
)
from skdeepgmm.estimators.clusterers.gan_em._restart import Restart
from skdeepgmm.estimators.clusterers.gan_em._settings import (
    architecture_of,
    config_of,
    init_iterations,
    init_method,
    n_init_of,
    recipe_of,
    uses_consistency,
)
from skdeepgmm.exceptions import DegenerateComponentWarning

#: How often a collapsed run is followed by another, at most.
MOST_RERUNS = 2
#: Samples that set sigma, and samples on which restarts are compared.
SIGMA_SAMPLES, SCORED_SAMPLES = 500, 4096


class GANEMFit(ClustererFit):
    """The state that the restarts of one fit share; parameters: :class:`ClustererFit`.

    Attributes
    ----------
    config : GANEMConfig
    n_init : int
    training_data : TrainingData
    kept : Restart
        The restart that the fit would keep if it ended now.
    restarts : list of Restart
        Those that may still be kept.
    attempt : int
        Trainings of the kept restart that collapsed; -1 while it is being chosen.
    asked_to_stop : bool
        Whether a callback has ended the fit.
    """

    Trainer, Restart = GANEM, Restart

    def __init__(self, estimator, X, labels, data):
        recipe = recipe_of(estimator)
        consistent = uses_consistency(estimator, X, labels)
        architecture = architecture_of(
            estimator, estimator.image_shape_, X.shape[1], recipe, consistent
        )
        self.config = config_of(estimator, architecture, recipe, X.shape[0], consistent)
        super().__init__(estimator, X, labels, data, architecture)
        self.n_init = n_init_of(estimator, architecture.shape, self.config.n_iter)
        self.n_jobs = jobs_of(estimator, self.n_init, X)
        self.attempt = -1 if self.n_init > 1 else 0
        self.restarts, self._trees = [], []
        self.asked_to_stop = False

    def initialize(self):
        """Find the initial responsibilities and build the first restart's networks."""
        saved = self.checkpoint.saved
        if saved is None:
            _, self.init_resp = self.once(
                lambda: initial_responsibilities(
                    self.estimator,
                    init_method(
                        self.estimator, self.architecture.shape, self.X.shape[0]
                    ),
                    self.X,
                    self.preprocessing,
                    self.labels,
                    self.random_state,
                )
            )
            self.learned = self._learned()
            # Of the noise behind means and densities, and of what restarts are
            # compared by: the same for all restarts.
            self.noise_seed = int(self.random_state.randint(MAX_SEED))
        else:
            with self.checkpoint.reading():
                self._resume(saved)
        self.training_data = self._all_data()
        self._next_restart()
        if saved is None:
            self.save()

    def _learned(self):
        """Return what the E-net learns of real images; None if it is not to."""
        if not self.config.fixed:
            return None
        return self.learned_from_images(self._made_classifier, self.init_resp)

    def _made_classifier(self, seed):
        return initial_classifier(self.architecture, seed, self.device)

    @property
    def report(self):
        """What training by consistency says of itself; None without."""
        return None if self.learned is None else self.learned.report

    def _all_data(self):
        if self.learned is None:
            return self._training_data(self.init_resp, self.labels)
        resp, weights = self.learned.resp, self.learned.weights
        return self._training_data(resp, self.labels, weights)

    def _next_restart(self):
        """Keep a new restart, or the next one of the checkpoint."""
        tree = self._trees.pop(0) if self._trees else None
        if tree is None:
            seed = int(self.random_state.randint(MAX_SEED))
        else:
            with self.checkpoint.reading():
                seed = tree["seed"]
        model = self.Trainer(self.architecture, self.config, self.training_data, seed)
        self.kept = self.Restart(self, model)
        if tree is not None:
            with self.checkpoint.reading():
                self.kept.resume(tree)
        self.restarts.append(self.kept)

    # Checkpoints -----------------------------------------------------------------

    def save_if_due(self, state):
        if self.checkpoint.is_due(state.epoch):
            self.save()

    def save(self):
        """Save all restarts that may still be kept."""
        self.checkpoint.save(self._tree)

    def _tree(self):
        return {
            "init_resp": self.init_resp,
            "learned": to_tree(self.learned),
            "noise_seed": self.noise_seed,
            "random_state": random_state_tree(self.random_state),
            "attempt": self.attempt,
            "restarts": [restart.to_tree() for restart in self.restarts],
        }

    def _resume(self, saved):
        self.init_resp, self.noise_seed = saved["init_resp"], saved["noise_seed"]
        self.learned = from_tree(saved["learned"])
        set_random_state(self.random_state, saved["random_state"])
        self.attempt, self._trees = saved["attempt"], list(saved["restarts"])

    @property
    def other_init(self):
        """Advice on ``init``, for runs that begin with equal responsibilities."""
        known = self.training_data.init_resp is not None
        return "" if known else " or set init='kmeans'"

    @property
    def n_iter_left(self):
        """Most EM iterations that are left: of restarts to come, and to the end."""
        left = self.config.n_iter - self.kept.n_iter
        if self.attempt >= 0:
            return left
        to_come = self.n_init - len(self.restarts)
        return left + to_come * init_iterations(
            self.estimator, self.architecture.shape, self.config.n_iter
        )

    @property
    def n_tasks(self):
        """Most callback tasks right below the fit; each rerun is one of them."""
        first = self.config.n_iter if self.n_init == 1 else self.n_init + 1
        return first + MOST_RERUNS

    @property
    def is_ended(self):
        """Whether Ctrl-C or a callback has ended the fit."""
        return self.interruption.happened or self.asked_to_stop

    # Training --------------------------------------------------------------------

    def choose_restart(self, tasks):
        """Train each of several restarts for a while, and keep the best."""
        if self.attempt >= 0:
            return
        n_iter = init_iterations(
            self.estimator, self.architecture.shape, self.config.n_iter
        )
        if self.n_jobs > 1:
            self._train_side_by_side(n_iter)
        for index in range(self.n_init):
            if self.estimator.verbose:
                print(f"Initialization {index}")
            if index > 0:
                self._next_restart()
            self._advance_as_task(n_iter, tasks)
            if self.is_ended:
                break
            self.save()
        self.kept = max(self.restarts, key=partial(self._rank, n_iter))
        self._begin_attempt(0)

    def _train_side_by_side(self, n_iter):
        """Train all restarts for a while in several processes.

        What they return is gone on from, as from a checkpoint. Ctrl-C until then ends
        the fit with nothing.
        """
        later = self.random_state.randint(MAX_SEED, size=self.n_init - 1)
        seeds = [self.kept.model.seed, *later.tolist()]
        given = self.X, self.labels, self.preprocessing
        given += self.init_resp, self.learned, self.noise_seed
        trees, done = [None] * self.n_init, [0] * self.n_init
        n_parts, rounds = rounds_of(self.n_init, self.n_jobs)
        raises, self.interruption.raises = self.interruption.raises, True
        for runs in rounds:
            for run in runs:
                done[run] += 1
            found = side_by_side(
                *(self.estimator, self.n_jobs, _train_alone),
                [
                    (type(self), n_iter * done[run] // n_parts, seeds[run])
                    + (trees[run], *given)
                    for run in runs
                ],
            )
            for run, tree in zip(runs, found, strict=True):
                trees[run] = tree
        self.interruption.raises = raises
        self.kept.resume(trees[0])
        self._trees = trees[1:]

    def _begin_attempt(self, number):
        """Save before the kept restart is trained to the end."""
        self.attempt, self.restarts = number, [self.kept]
        if not self.is_ended:
            self.save()

    def train(self, tasks):
        """Train the kept restart to the end, and another one after a collapse."""
        for attempt in range(self.attempt, MOST_RERUNS + 1):
            if self.is_ended:
                return
            if self.n_init > 1 or attempt > 0:
                self._advance_as_task(self.config.n_iter, tasks)
            else:
                self.kept.advance(self.config.n_iter, tasks)
            if self.is_ended or not self.kept.collapsed or attempt == MOST_RERUNS:
                return
            self._warn_collapse()
            self._next_restart()
            self._begin_attempt(attempt + 1)

    def _advance_as_task(self, n_iter, tasks):
        """Train the kept restart in a callback task of its own."""
        restart = self.kept
        if restart.is_over:
            return
        with self.interruption:
            _, asked_to_stop = self.estimator._initialization(
                tasks,
                n_iter - restart.n_iter,
                self.data,
                partial(restart.advance, n_iter),
                lambda _: self.attributes(restart.model),
            )
            self.asked_to_stop |= asked_to_stop

    def _rank(self, n_iter, restart):
        """Return what restarts are ordered by: score, among those that are whole."""
        whole = restart.is_over or restart.n_iter >= n_iter
        return not restart.collapsed, whole, self.selection_score(restart.model)

    def selection_score(self, model):
        """Return by what restarts are compared: ``quality_``."""
        rng = new_generator(self.noise_seed, self.device)
        rows = random_rows(self.rows, SCORED_SAMPLES, rng)
        affine = self.config.augmentation.affine
        return selection_score(model.probabilities, rows, affine, rng)

    def _warn_collapse(self):
        largest = self.kept.occupancies[-1].max()
        warn_caller(
            f"A run collapsed to {largest:.0%} of the samples in one of "
            f"{self.estimator.n_clusters} clusters and is repeated from other weights. "
            f"If this goes on, lower learning_rate{self.other_init}.",
            DegenerateComponentWarning,
        )

    # Attributes ------------------------------------------------------------------

    def attributes(self, model):
        """Return the fitted attributes of a model, but for ``labels_``."""
        attributes = self._network_attributes(
            model.mean_probabilities(),
            generator=model.generator,
            discriminator=model.discriminator,
            classifier=model.predictor,
        )
        attributes["_noise_seed"] = self.noise_seed
        return attributes | self._density(attributes)

    def _density(self, attributes):
        """Return the generator's means and the standard deviation of its kernels."""
        kernels = kernels_of(attributes, self.device)
        rng = new_generator(self.noise_seed)
        rows = random_rows(self.rows, SIGMA_SAMPLES, rng)
        means = kernels.cluster_means(self.estimator.n_clusters)
        means = means.reshape(len(means), *self.architecture.shape)
        means = self.preprocessing.from_network(means)
        return {
            "means_": convert.to_numpy(means, convert.torch_dtype(self.X)),
            "sigma_": kernels.best_sigma(rows),
        }


def _train_alone(estimator, Fit, n_iter, seed, tree, X, labels, preprocessing, *begun):
    """Train one restart on, where nothing follows it; returns a tree of arrays.

    ``begun`` are initial responsibilities, what was learned of images, and the seed of
    noise.
    """
    fit = Fit(estimator, X, labels, {})
    fit.init_resp, fit.learned, fit.noise_seed = begun
    fit.preprocessing = preprocessing
    fit.rows = preprocessing.to_network(X, fit.device)
    data = fit._all_data()
    restart = fit.Restart(fit, fit.Trainer(fit.architecture, fit.config, data, seed))
    if tree is not None:
        restart.resume(tree)
    restart.advance(n_iter, None)
    return restart.to_tree()


def kernels_of(attributes, device):
    """Return the kernels of the density of fitted attributes.

    Parameters
    ----------
    attributes : dict
        With ``networks_``, ``weights_``, ``_architecture`` and ``_noise_seed``.
    device : torch.device
    """
    generator = restored(Architecture, attributes, "generator", device)
    weights = convert.float64_tensor(attributes["weights_"], device)
    return generated_kernels(generator.sample, weights, attributes["_noise_seed"])
