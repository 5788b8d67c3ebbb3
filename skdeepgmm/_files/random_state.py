"""The state of a NumPy RandomState, which NumPy itself takes without a look."""

import numpy as np

#: The only generator of a RandomState that is stored.
BIT_GENERATOR = "MT19937"
#: Words of the state of the Mersenne Twister.
_KEY_LENGTH = 624


def is_random_state(state):
    """Tell whether NumPy may take this state: a wrong one crashes the process.

    Parameters
    ----------
    state : object
        As ``RandomState.get_state(legacy=False)`` returns it.
    """
    names = {"bit_generator", "state", "has_gauss", "gauss"}
    if not isinstance(state, dict) or set(state) != names:
        return False
    inner, gauss = state["state"], state["gauss"]
    return (
        state["bit_generator"] == BIT_GENERATOR
        and isinstance(inner, dict)
        and set(inner) == {"key", "pos"}
        and _is_key(inner["key"])
        and type(inner["pos"]) is int
        and 0 <= inner["pos"] <= _KEY_LENGTH
        and type(state["has_gauss"]) is int
        and state["has_gauss"] in (0, 1)
        and type(gauss) is float
        and bool(np.isfinite(gauss))
    )


def _is_key(key):
    fine = isinstance(key, np.ndarray) and key.dtype == np.uint32
    # From zeros alone only zeros follow, and normal draws would never end: all but the
    # first bit of the first word count.
    return fine and key.shape == (_KEY_LENGTH,) and bool(key[0] >> 31 or key[1:].any())
