"""Train the patch prior that ships with the package.

A mixture of zero-mean Gaussians on mean-removed patches of natural images, in the DCT
basis without its constant vector, by online EM (Cappé & Moulines 2009): every step
draws new patches, :class:`skdeepgmm.GaussianMixture` takes one step of EM on them, and
its statistics are averaged into the running ones with a falling weight. The means are
folded into the covariances (Sigma + mu mu^T), which is the M-step of the mixture whose
means are fixed at zero.

The images are the 400 Berkeley crops that denoisers are trained on. Index 19 is left
out, since it is the photograph of a Set12 test image, and the last 20 are held out to
measure the log-likelihood. The data are not part of this package:

    python benchmarks/train_patch_prior.py --data FOLDER --out prior.safetensors

with FOLDER/bsd400_train.npz holding ``X`` of shape (400, 180, 180), uint8. These
photographs are published for non-commercial research. ``--free`` learns from a few
pictures under free licences instead, which scikit-image and scikit-learn ship with; the
Berkeley crops are then held out alone.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.fft import dct

from skdeepgmm import GaussianMixture

TEST_IMAGE = 19  # the photograph of Set12's starfish
N_HELD_OUT = 20
# Variance of rounding to 8 bits: no detail below it is in the data.
QUANTISATION = 1 / 12 / 255**2
PATHS = ("data", "out", "resume")
#: Public domain or CC0 (see the README of scikit-image's data), with how often a step
#: draws from each: surfaces and the moon teach textures, and less else.
FREE_OF_SKIMAGE = {
    "astronaut": 3,
    "camera": 3,
    "chelsea": 3,
    "coffee": 3,
    "rocket": 3,
    "brick": 1,
    "grass": 1,
    "gravel": 1,
    "moon": 1,
}
#: CC BY 2.0, by the authors that scikit-learn's sample images name.
FREE_OF_SKLEARN = ("china.jpg", "flower.jpg")


def parse():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--components", type=int, default=200)
    parser.add_argument("--patch-size", type=int, default=8)
    parser.add_argument("--batch", type=int, default=60_000, help="patches a step")
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--free", action="store_true", help="free pictures only")
    parser.add_argument("--resume", type=Path, help="prior to go on from")
    return parser.parse_args()


def free_images():
    """Return free pictures and their halves, in [0, 1], rounded to 8 bits."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    pictures = [(grey(getattr(data, name)()), n) for name, n in FREE_OF_SKIMAGE.items()]
    pictures += [(grey(load_sample_image(name)), 3) for name in FREE_OF_SKLEARN]
    sizes = [size for image, n in pictures for size in n * [image, half(image)]]
    return [np.round(255 * image).astype(np.float32) / 255 for image in sizes]


def grey(image):
    """Return the luma of an RGB or grey picture of 8 bits, in [0, 1]."""
    image = np.asarray(image, dtype=float) / 255
    return image if image.ndim == 2 else image[..., :3] @ [0.299, 0.587, 0.114]


def half(image):
    """Return the image of half the size."""
    height, width = (n // 2 for n in image.shape)
    cells = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    return cells.mean(axis=(1, 3))


def training_images(folder):
    """Return (training images, held-out images) with values in [0, 1]."""
    with np.load(folder / "bsd400_train.npz") as file:
        images = file["X"]
    images = np.delete(images, TEST_IMAGE, axis=0).astype(np.float32) / 255
    return images[:-N_HELD_OUT], images[-N_HELD_OUT:]


def dct_basis(size):
    """Return the DCT vectors of a patch but the constant one, one a column."""
    one = dct(np.eye(size), axis=0, norm="ortho").T
    return np.kron(one, one)[:, 1:]


def random_symmetry(image, rng):
    """Return the image flipped up-down, left-right and transposed, each at random."""
    up, left, transpose = rng.integers(0, 2, 3)
    image = image[:: 1 - 2 * up, :: 1 - 2 * left]
    return image.T if transpose else image


def draw_patches(images, n_patches, size, rng, symmetric=True):
    """Return coefficients of patches at uniformly random places, float32.

    With ``symmetric`` every image is flipped and transposed at random first.
    """
    each = -(-n_patches // len(images))
    rows = []
    for image in images:
        if symmetric:
            image = random_symmetry(image, rng)
        windows = np.lib.stride_tricks.sliding_window_view(image, (size, size))
        top, left = (rng.integers(0, n, each) for n in windows.shape[:2])
        rows.append(windows[top, left].reshape(each, -1))
    return (np.concatenate(rows) @ dct_basis(size)).astype(np.float32)


def start_precisions(X, n_components, rng, n_pool=100_000, n_nearest=400):
    """Return a precision matrix a component, from the neighbours of random patches.

    Neighbours are the patches of similar contrast that are the most parallel, with
    either sign, to a randomly drawn one.
    """
    pool = X[rng.choice(len(X), min(n_pool, len(X)), replace=False)].astype(float)
    norms = np.linalg.norm(pool, axis=1) + 1e-3
    common = np.cov(pool.T)
    precisions = []
    for seed in rng.choice(len(pool), n_components, replace=False):
        cosine = np.abs(pool @ pool[seed]) / (norms * norms[seed])
        distance = np.abs(np.log(norms / norms[seed])) - 2 * cosine
        near = pool[np.argpartition(distance, n_nearest)[:n_nearest]]
        scatter = near.T @ near / n_nearest
        common_here = common * np.trace(scatter) / np.trace(common)
        covariance = 0.7 * scatter + 0.3 * common_here
        covariance[np.diag_indices_from(covariance)] += QUANTISATION
        precisions.append(np.linalg.inv(covariance))
    return np.array(precisions)


def em_step(X, weights, precisions):
    """Return (weights, covariances, log-likelihood before) after one step of EM."""
    mixture = GaussianMixture(
        len(weights),
        max_iter=1,
        tol=0,
        reg_covar=QUANTISATION,
        weights_init=weights,
        means_init=np.zeros((len(weights), X.shape[1])),
        precisions_init=precisions,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one step never converges
        mixture.fit(X)
    means = mixture.means_.astype(float)
    covariances = mixture.covariances_ + means[:, :, None] * means[:, None, :]
    weights = mixture.weights_.astype(float)
    return weights / weights.sum(), covariances, mixture.lower_bound_


def held_out_score(X, weights, precisions):
    """Return the mean log-density of X in nats per patch."""
    mixture = GaussianMixture(
        len(weights),
        max_iter=0,
        weights_init=weights,
        means_init=np.zeros((len(weights), X.shape[1])),
        precisions_init=precisions,
    )
    return mixture.fit(X).score(X)


def step_size(step):
    """Return the weight of the new statistics: 1, falling as a power of the step."""
    return (1 + step / 4) ** -0.75


def blend(old, new, rate):
    """Return (weights, covariances) from averaged statistics of both."""
    if old is None:
        return new
    (w0, s0), (w1, s1) = old, new
    weights = (1 - rate) * w0 + rate * w1
    second = ((1 - rate) * w0)[:, None, None] * s0 + (rate * w1)[:, None, None] * s1
    return weights, second / weights[:, None, None]


def inverses(covariances):
    """Return symmetric inverses of the covariances."""
    precisions = np.linalg.inv(covariances)
    return (precisions + precisions.transpose(0, 2, 1)) / 2


def write(path, weights, covariances, record):
    """Write weights and packed upper triangles as float32."""
    rows, columns = np.triu_indices(covariances.shape[1])
    # safetensors writes the memory as it lies: C order must be made.
    packed = np.ascontiguousarray(covariances[:, rows, columns], dtype=np.float32)
    tensors = {"weights": weights.astype(np.float32), "covariances": packed}
    save_file(tensors, path, metadata={"record": json.dumps(record)})


def read(path):
    """Return (steps taken, (weights, covariances)) of a prior."""
    with safe_open(path, framework="numpy") as file:
        steps = json.loads(file.metadata()["record"])["steps"]
        weights, packed = (
            file.get_tensor(name).astype(float) for name in ("weights", "covariances")
        )
    n_features = int(np.sqrt(2 * packed.shape[1]))
    rows, columns = np.triu_indices(n_features)
    covariances = np.empty((len(weights), n_features, n_features))
    covariances[:, rows, columns] = covariances[:, columns, rows] = packed
    return steps, (weights / weights.sum(), covariances)


def main():
    """Train, writing the prior after every step."""
    args = parse()
    images, held_out = training_images(args.data)
    if args.free:
        images = free_images()
    rng = np.random.default_rng(args.seed)
    test = draw_patches(held_out, 50_000, args.patch_size, rng, symmetric=False)
    weights = np.full(args.components, 1 / args.components)
    record = {key: value for key, value in vars(args).items() if key not in PATHS}
    model, first, start = None, 0, time.perf_counter()
    if args.resume:
        first, model = read(args.resume)
        weights, precisions = model[0], inverses(model[1])
    for step in range(first, args.steps):
        rng = np.random.default_rng([args.seed, step])
        X = draw_patches(images, args.batch, args.patch_size, rng)
        if model is None:
            precisions = start_precisions(X, args.components, rng)
        *found, score = em_step(X, weights, precisions)
        model = weights, covariances = blend(model, found, step_size(step))
        precisions = inverses(covariances)
        line = f"step {step + 1}: {score:.3f} nats a patch on the batch"
        if (step + 1) % 25 == 0:
            record["held_out_nats"] = held_out_score(test, weights, precisions)
            line += f", {record['held_out_nats']:.4f} held out"
        print(f"{line}, {(time.perf_counter() - start) / 60:.1f} min", flush=True)
        write(args.out, weights, covariances, record | {"steps": step + 1})


if __name__ == "__main__":
    main()
