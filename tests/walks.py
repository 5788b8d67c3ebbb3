"""How far an array walks through the package: crossings of the wall, depth of calls.

The wall stands between ``skdeepgmm.estimators`` and ``skdeepgmm._torch_backend``.
"""

import sys
from pathlib import Path

import skdeepgmm

PACKAGE = f"{Path(skdeepgmm.__file__).parent}/"
UPSTAIRS, DOWNSTAIRS = f"{PACKAGE}estimators/", f"{PACKAGE}_torch_backend/"
SIDES = {UPSTAIRS: "estimators", DOWNSTAIRS: "backend"}


class Walk:
    """Follows a program through the package while it is entered.

    Parameters
    ----------
    until : callable, default=None
        A function, of the package or not; its first call sets ``depth``.

    Attributes
    ----------
    crossings : int
        How often execution has moved from one side of the wall to the other, by a call
        or by a return.
    depth : int or None
        How many functions of the package were running as ``until`` was first called,
        itself included where it is one of them.
    path : list of str
        Their names.
    """

    def __init__(self, until=None):
        self.until = getattr(until, "__code__", None)
        self.crossings, self.depth, self.path = 0, None, []
        self.side = None

    def __enter__(self):
        self.before = sys.getprofile()
        sys.setprofile(self._follow)
        return self

    def __exit__(self, *error):
        sys.setprofile(self.before)

    def _follow(self, frame, event, argument):
        if event == "call":
            self._move(side_of(frame))
            if frame.f_code is self.until and self.depth is None:
                self.path = called(frame)
                self.depth = len(self.path)
        elif event == "return" and side_of(frame) is not None:
            self._move(next(filter(None, map(side_of, callers(frame))), None))

    def _move(self, side):
        if side is None:  # library code belongs to the side that called it
            return
        self.crossings += self.side not in (None, side)
        self.side = side


def side_of(frame):
    """Return the side of the wall on which a frame runs, None for neither."""
    name = frame.f_code.co_filename
    return next((side for place, side in SIDES.items() if name.startswith(place)), None)


def callers(frame):
    """Yield the frames that wait for this one, the nearest first."""
    while (frame := frame.f_back) is not None:
        yield frame


def called(frame):
    """Return the names of the package's functions that run, the first call first."""
    frames = [frame, *callers(frame)]
    inside = [one for one in frames if one.f_code.co_filename.startswith(PACKAGE)]
    return [one.f_code.co_qualname for one in reversed(inside)]


def crossings(fit):
    """Return how often ``fit()`` crosses the wall."""
    with Walk() as walk:
        fit()
    return walk.crossings


def crossings_an_iteration(construct, X, max_iter=3):
    """Return the crossings that one more iteration of a fit costs.

    Parameters
    ----------
    construct : callable
        Takes ``max_iter`` and returns an estimator that does not stop before.
    """
    shorter, longer = (
        crossings(lambda n=n: construct(max_iter=n).fit(X))
        for n in (max_iter, max_iter + 1)
    )
    return longer - shorter


def depth_of(function, fit):
    """Return the depth at which ``fit()`` first calls a function, and the path."""
    with Walk(function) as walk:
        fit()
    return walk.depth, walk.path
