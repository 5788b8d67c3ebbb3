"""One call of ``SGDGaussianMixture.fit`` or ``partial_fit``: initialization, run."""

import copy
from functools import partial

from skdeepgmm._torch_backend import annealing, convert
from skdeepgmm._torch_backend import checkpoint as trees
from skdeepgmm._torch_backend.data import ArraySource
from skdeepgmm._torch_backend.mixture import sgd, training_parameters
from skdeepgmm._torch_backend.mixture.merging import merged
from skdeepgmm._torch_backend.mixture.overcomplete import overcomplete_size
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm._torch_backend.rows import TrainingRows
from skdeepgmm._torch_backend.schedules import MergingPlan, RunPlan
from skdeepgmm._torch_backend.training import snapshot
from skdeepgmm.estimators._base import MAX_SEED
from skdeepgmm.estimators._epoch_fit import EpochFit, default_batch_size
from skdeepgmm.estimators._jobs import side_by_side
from skdeepgmm.estimators.mixture._validation import (
    check_means,
    check_near,
    check_reg_covar,
)

#: Rows read at a time for means and variances.
CHUNK_ROWS = 2**14
#: The largest default batch.
LARGEST_BATCH = 512
#: Share of the epochs in which there are more components than wanted.
BEFORE_MERGING = 2 / 3
#: The smallest learning rate at the beginning of the rest, as a share of the first.
LEAST_LR_AFTER_MERGING = 0.05


def batch_size_of(estimator, X):
    """Return the samples a step."""
    # Below n_features rows a step costs the same: its matrices are that large.
    return estimator.batch_size or default_batch_size(*X.shape, LARGEST_BATCH)


class SGDFit(EpochFit):
    """The state that the initializations of one fit share.

    Parameters
    ----------
    estimator : SGDGaussianMixture
        Gives the settings; its fitted attributes are read where a stream goes on and
        never written.
    X : ndarray or tensor of shape (n_samples, n_features)
        Validated data.
    data : dict
        What the callbacks get.
    standardization : Standardization, default=None
        Units in which to train; None measures them on X.
    sample_weight : ndarray of shape (n_samples,) or None
        Validated weights.
    checkpoint : Checkpoint or None
    """

    def __init__(
        self,
        estimator,
        X,
        data,
        standardization=None,
        sample_weight=None,
        checkpoint=None,
    ):
        ranks = getattr(X, "ranks", None)
        super().__init__(
            *(estimator, data, estimator.n_components, "log_likelihood"),
            *(checkpoint, ranks),
        )
        self.X, self.results = X, []
        self.covariance_class = estimator._covariance_class
        self.device = estimator._device(X)
        self.means_init = estimator.means_init
        if self.means_init is not None:
            self.means_init = check_means(
                self.means_init, estimator.n_components, X.shape[1], "means_init"
            )
        if ranks is None:
            weight = self._weight(sample_weight)
            source = ArraySource(X, self.device, CHUNK_ROWS, weight)
        else:
            source = X.source(0, CHUNK_ROWS, sample_weight)
        self.source, self.missing = source, source.has_missing
        if standardization is None:
            self.standardization = source.standardize(self.covariance_class.isotropic)
        else:
            self.standardization = source.use_units(standardization)
        check_reg_covar(estimator, self.ridge(), source.dtype)
        self.log_scale = source.mean_log_scale()
        self.rows = TrainingRows(
            X if ranks is None else X.local,
            self.standardization,
            self.device,
            sample_weight=sample_weight if ranks is None else X.weighted_by,
            ranks=ranks,
        )
        self.batch_size = batch_size_of(estimator, X)

    def goes_on(self):
        """Tell whether another initialization is to follow, and save those before."""
        n_init = self.estimator.n_init
        if self.interruption.happened or len(self.results) == n_init:
            return False
        if not self.results:
            return True
        model, state = self.results[-1]
        if not state.stopped:
            self.save(len(self.results) - 1, model, state)
        return not state.stopped

    @property
    def best(self):
        """The (model, TrainingState) of the best training."""
        found = [result for result in self.results if result[1].history]
        if not found:  # Ctrl-C came before the end of an epoch
            raise KeyboardInterrupt
        return max(found, key=selection_score)

    def train_side_by_side(self, sample_weight, n_jobs):
        """Train from all initializations in several processes.

        What they return is gone on from, as from a checkpoint. Ctrl-C ends it with
        nothing.
        """
        self.interruption.raises = True
        random_state = copy.deepcopy(self.random_state)
        calls = [
            (self.X, sample_weight, self.standardization)
            + (int(random_state.randint(MAX_SEED)),)
            for _ in range(self.estimator.n_init)
        ]
        self._trees = side_by_side(self.estimator, n_jobs, _train_alone, calls)

    def __call__(self, index, tasks):
        """Train from one initialization; returns (model, TrainingState)."""
        estimator = self.estimator
        self.report.begin(index)
        self.generator = estimator._generator(self.random_state)
        if estimator.n_init == 1:
            result = self.run(tasks, index)
        else:
            result, asked_to_stop = estimator._initialization(
                tasks,
                estimator.max_iter,
                self.data,
                lambda task: self.run(task, index),
                lambda result: self.attributes(result[0]),
            )
            result[1].stopped |= asked_to_stop
        self.results.append(result)
        return result

    def new_model(self, total_steps):
        """Return the model of a run with so many steps."""
        estimator, size = self.estimator, self._size_at_first()
        plan = self._plan(total_steps, size)
        if size > estimator.n_components:
            steps = total_steps // estimator.max_iter * self._epochs_before_merging
            rest = total_steps - steps
            lr = _lr_after_merging(estimator.learning_rate, self.X.shape[1])
            plan = MergingPlan(
                self._plan(steps, size),
                RunPlan(lr, rest, fresh=False),
                estimator.n_components,
            )
        return self.model(plan, self._initial(size))

    def _plan(self, total_steps, n_components):
        """Return the plan of a run from random parameters."""
        estimator, schedule = self.estimator, None
        # Coupling would pull user-supplied means together again.
        if self.means_init is None and estimator.annealing != "none":
            schedule = annealing.schedule(n_components, estimator.annealing_fraction)
        return RunPlan(estimator.learning_rate, total_steps, schedule)

    def _size_at_first(self):
        """Return the number of components before any are merged."""
        estimator = self.estimator
        if self.means_init is not None or not self._epochs_before_merging:
            return estimator.n_components
        n_counted = self.source.n_counted
        if self.ranks is not None:  # each of them may draw samples from its own
            n_counted = min(self.source.survey.counted.values())
        return overcomplete_size(
            estimator.n_components, n_counted, estimator.overcomplete
        )

    @property
    def _epochs_before_merging(self):
        return int(BEFORE_MERGING * self.estimator.max_iter)

    def _resize(self, model, saved):
        size = self.estimator.n_components
        if len(saved["parameters.logits"]) == size < model.n_components:
            model.merge(size)

    def _held_out_score(self, model, index):
        rows = self.rows
        return partial(rows.mean, model.log_likelihood, index, sgd.SCORE_ROWS)

    def _judge(self, state):
        """Call a run converged whose last epoch changed the likelihood by < tol."""
        bounds = [entry["log_likelihood"] for entry in state.history[-2:]]
        if len(bounds) == 2 and not state.stopped:
            state.converged |= abs(bounds[1] - bounds[0]) < self.estimator.tol

    def ridge(self):
        """Return the smallest variances of the standardised data."""
        estimator = self.estimator
        return training_parameters.variance_floor(
            self.standardization, estimator.reg_covar, estimator.reg_covar_relative
        )

    def model(self, plan, parameters):
        """Return a trainable mixture."""
        estimator = self.estimator
        config = sgd.SGDConfig(
            self.covariance_class,
            plan,
            estimator.momentum,
            self.ridge().to(self.rows.dtype),
            annealing.objective(estimator.annealing),
            self.missing,
        )
        parameters = self.source.agreed(parameters)
        return sgd.SGDMixture(parameters, config, self.generator, ranks=self.ranks)

    def parameters(self, fresh):
        """Return the initial parameters of a stream's next chunk."""
        if not fresh:
            return self.fitted()
        return self._initial(self.estimator.n_components)

    def _initial(self, size):
        """Return initial parameters of so many components."""
        width = self.X.shape[1]
        logits = training_parameters.equal_logits(size)
        means = self._means(size)
        factor = self.covariance_class.initial_sgd_factor(size, width, self.generator)
        return self._parameters(logits, means, factor)

    def _means(self, size):
        """Return initial means: user-supplied, around the data's mean, or samples."""
        if self.means_init is not None:
            means = convert.float64_tensor(self.means_init, self.device)
            means = self.standardization(means)
            check_near(means)
            return means
        if self.estimator.init_params == "random":
            return sgd.random_means(size, self.X.shape[1], self.generator)
        return training_parameters.random_rows(self.rows, size, self.generator)

    def fitted(self):
        """Return the fitted mixture in the units of this fit."""
        mixture = self.estimator._mixture(self.X).standardized(self.standardization)
        factor = mixture.covariance.to_sgd_factor()
        return self._parameters(mixture.weights.log(), mixture.means, factor)

    def _weight(self, sample_weight):
        if sample_weight is None:
            return None
        return convert.float64_tensor(sample_weight, self.device)

    def _parameters(self, *values):
        return training_parameters.parameters_like(self.rows, *values)

    def mixture(self, model):
        """Return a model's mixture in the units of the data."""
        # Before the merging, what it would give now.
        mixture = merged(model.mixture(), self.estimator.n_components)
        return mixture.unstandardized(self.standardization)

    def attributes(self, model):
        """Return a model's parameters as fitted attributes."""
        return self.mixture(model).to_attributes(self.rows.dtype)

    def _log_volume(self, name):
        return self.log_scale


def selection_score(result):
    """Return by what trainings are compared: the best held-out score, or last bound."""
    _, state = result
    scores = [entry["score"] for entry in state.history if "score" in entry]
    return max(scores, default=state.history[-1]["log_likelihood"])


def _lr_after_merging(learning_rate, n_features):
    """Return the learning rate at the beginning of the steps after the merging.

    The noise of log-densities adds up over the features: with many, steps as large as
    the first ones would spread what has been found.
    """
    share = min(1.0, sgd.ANNEALED_FEATURES / n_features)
    return learning_rate * max(LEAST_LR_AFTER_MERGING, share)


def _train_alone(estimator, X, sample_weight, standardization, seed):
    """Train once where nothing follows it; returns the end as a tree of arrays."""
    fit = SGDFit(estimator, X, {}, standardization, sample_weight)
    fit.generator = new_generator(seed)
    model, state = fit.run(None)
    return trees.to_arrays(snapshot(model, state, fit._generators))
