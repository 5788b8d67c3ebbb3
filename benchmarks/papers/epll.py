"""Grey-image denoising on BSD68 and Set12 against published figures and other programs.

    python benchmarks/papers/epll.py --data FOLDER --out benchmarks/results
    python benchmarks/papers/epll.py --data FOLDER --out benchmarks/results --variants
    python benchmarks/papers/epll.py --data FOLDER --out benchmarks/results --likelihood
    python benchmarks/papers/epll.py --out benchmarks/results --report

FOLDER/denoise_test.npz holds the test images (``bsd68_test001`` ..., ``set12_01`` ...),
uint8. White noise of 15, 25 or 50 grey levels is added to the image in [0, 1] and
neither clipped nor rounded; its seed is (SEED, level, number of the image), so every
method sees the same noise. The noise level is told to every method. PSNR and SSIM are
of the unclipped result. Needs ``pip install bm3d scikit-image``.

Each measurement is appended to a file as soon as it is made, and a run skips what the
file holds. Seconds are wall time; CPU seconds are summed over threads, and are what to
compare when the machine is busy.
"""

import argparse
import csv
import platform
import time
from pathlib import Path

import numpy as np
from _summaries import write as write_summary

SEED = 0
LEVELS = (15, 25, 50)
PUBLISHED = {
    "EPLL (published)": {15: 31.21, 25: 28.68, 50: 25.67},
    "BM3D (published)": {15: 31.07, 25: 28.57, 50: 25.62},
}
FIELDS = ("method", "level", "image", "height", "width", "psnr", "ssim", "s", "cpu_s")


def ours(**params):
    """Return a function that denoises with the shipped prior."""

    def denoise(noisy, sigma):
        from skdeepgmm import PatchGMMDenoiser

        denoiser = PatchGMMDenoiser.pretrained(sigma=sigma, data_range=1, **params)
        return denoiser.transform([noisy])[0]

    return denoise


def bm3d(noisy, sigma):
    """BM3D of the package ``bm3d``, both stages."""
    import bm3d

    return bm3d.bm3d(noisy, sigma_psd=sigma)


def wavelet(noisy, sigma):
    """Soft BayesShrink thresholds."""
    from skimage.restoration import denoise_wavelet

    return denoise_wavelet(noisy, sigma=sigma, method="BayesShrink", mode="soft")


def total_variation(noisy, sigma):
    """Chambolle's algorithm with a weight of sigma."""
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(noisy, weight=sigma)


def non_local_means(noisy, sigma):
    """The settings of scikit-image's gallery."""
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(
        noisy, h=0.8 * sigma, sigma=sigma, patch_size=5, patch_distance=6
    )


#: What the tables list, and the speed / quality trade-off one measure at a time.
METHODS = {
    "PatchGMMDenoiser": ours(),
    "PatchGMMDenoiser, adapt_iter=0": ours(adapt_iter=0),
    "BM3D": bm3d,
    "wavelet": wavelet,
    "TV": total_variation,
    "NL means": non_local_means,
}
VARIANTS = {
    "adapt 2, stride 2 (default)": ours(),
    "adapt 0, stride 1, exact": ours(adapt_iter=0, stride=1, truncation=0),
    "adapt 0, stride 1, truncation 0.3": ours(adapt_iter=0, stride=1),
    "adapt 0, stride 1, truncation 1": ours(adapt_iter=0, stride=1, truncation=1),
    "adapt 0, stride 2, exact": ours(adapt_iter=0, truncation=0),
    "adapt 0, stride 2, truncation 0.3": ours(adapt_iter=0),
    "adapt 0, stride 2, search 2": ours(adapt_iter=0, search_stride=2),
    "adapt 0, stride 3": ours(adapt_iter=0, stride=3),
    "adapt 0, stride 4": ours(adapt_iter=0, stride=4),
    "adapt 0, stride 2, one scale": ours(adapt_iter=0, n_scales=1),
    "adapt 1, stride 2": ours(adapt_iter=1),
    "adapt 2, stride 1": ours(stride=1),
    "adapt 2, stride 3": ours(stride=3),
}


def parse():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--variants", action="store_true", help="the trade-off")
    parser.add_argument(
        "--likelihood", action="store_true", help="the prior as a density of patches"
    )
    parser.add_argument("--pictures", type=Path, help="folder for pictures")
    parser.add_argument("--levels", nargs="*", type=int, default=LEVELS)
    parser.add_argument("--limit", type=int, help="first images of each set only")
    parser.add_argument("--report", action="store_true", help="write the tables only")
    return parser.parse_args()


def test_images(folder, limit):
    """Yield (name, number, image in [0, 1])."""
    with np.load(folder / "denoise_test.npz") as file:
        for prefix in ("bsd68", "set12"):
            names = sorted(name for name in file.files if name.startswith(prefix))
            for number, name in enumerate(names[:limit]):
                yield name, number, file[name] / 255


def measure(denoise, clean, level, number):
    """Return PSNR, SSIM, seconds and CPU seconds of one run."""
    from skdeepgmm.metrics import psnr, ssim

    rng = np.random.default_rng([SEED, level, number])
    sigma = level / 255
    noisy = clean + sigma * rng.normal(size=clean.shape)
    start, cpu = time.perf_counter(), time.process_time()
    restored = np.asarray(denoise(noisy, sigma), dtype=float)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    quality = [f(clean, restored, data_range=1) for f in (psnr, ssim)]
    return [*(f"{q:.4f}" for q in quality), f"{seconds:.2f}", f"{cpu_seconds:.2f}"]


def read(path):
    """Return the rows measured so far."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path, row):
    """Add one row to the file, with a header if it is new."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(FIELDS)
        writer.writerow(row)


def run(args, path, methods):
    """Measure what is missing, image by image."""
    done = {(r["method"], int(r["level"]), r["image"]) for r in read(path)}
    for name, number, clean in test_images(args.data, args.limit):
        for level in args.levels:
            for method, denoise in methods.items():
                if (method, level, name) not in done:
                    figures = measure(denoise, clean, level, number)
                    append(path, [method, level, name, *clean.shape, *figures])


def table(rows, prefix, published):
    """Return a Markdown table of means over images, and over the same ones for ours.

    A method may have been measured on fewer images: so each line also has the PSNR of
    the first method on the images of the line.
    """
    rows = [row for row in rows if row["image"].startswith(prefix)]
    lines = [
        "| method | sigma | images | PSNR, dB | first method on these | SSIM | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for level in sorted({int(row["level"]) for row in rows}):
        here = [row for row in rows if int(row["level"]) == level]
        methods = [m for m in dict.fromkeys((*METHODS, *VARIANTS)) if _of(here, m)]
        lines += [_line(here, method, level, methods[0]) for method in methods]
        lines += [
            f"| {method} | {level} | 68 | {figures[level]:.2f} | | | |"
            for method, figures in published.items()
        ]
    return "\n".join(lines)


def _of(rows, method):
    """Return the rows of one method by image."""
    return {row["image"]: row for row in rows if row["method"] == method}


def _line(rows, method, level, first):
    here, reference = _of(rows, method), _of(rows, first)
    psnr, ssim, _, cpu = (
        np.mean([float(row[key]) for row in here.values()]) for key in FIELDS[5:]
    )
    same = np.mean([float(reference[image]["psnr"]) for image in here])
    return (
        f"| {method} | {level} | {len(here)} | {psnr:.3f} | {same:.3f} | {ssim:.4f} | "
        f"{cpu:.1f} |"
    )


def likelihood(args):
    """Measure the prior as a density of patches, and draw pictures where asked."""
    from _epll_likelihood import draw_pictures, measure_likelihood

    with (args.out / "epll_likelihood.csv").open("w", newline="") as file:
        csv.writer(file).writerows(measure_likelihood(args.data))
    if args.pictures is not None:
        args.pictures.mkdir(parents=True, exist_ok=True)
        draw_pictures(args.data, args.pictures)


def likelihood_table(path):
    """Return the mean log-density of held-out patches as a table."""
    with path.open(newline="") as file:
        rows = [f"| {name} | {nats} |" for name, nats in csv.reader(file)]
    head = "| model | nats a held-out patch (63 DCT coefficients) |\n|---|---|\n"
    return head + "\n".join(rows)


def report(folder):
    """Write the tables to epll.md."""
    parts = ["# EPLL denoising", __doc__.split("\n\n", 2)[2].strip()]
    parts.append(f"Machine: {platform.machine()}, 2 CPU cores. Seed {SEED}.")
    rows, variants = read(folder / "epll.csv"), read(folder / "epll_variants.csv")
    for title, prefix, published in (
        ("BSD68", "bsd68", PUBLISHED),
        ("Set12", "set12", {}),
    ):
        parts += [f"## {title}", table(rows, prefix, published)]
    if variants:
        parts += ["## Speed and quality, one measure at a time"]
        parts += [table(variants, "bsd68", {})]
    likelihood = folder / "epll_likelihood.csv"
    if likelihood.exists():
        parts += ["## The prior as a density", likelihood_table(likelihood)]
    (folder / "epll.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    for path in sorted(folder.glob("epll*.csv")):
        write_summary(path, f"{platform.machine()}, 2 CPU cores")


def main():
    """Measure and report."""
    args = parse()
    if args.likelihood:
        likelihood(args)
    elif not args.report:
        chosen = {name: METHODS[name] for name in args.methods}
        methods = VARIANTS if args.variants else chosen
        name = "epll_variants.csv" if args.variants else "epll.csv"
        run(args, args.out / name, methods)
    report(args.out)


if __name__ == "__main__":
    main()
