"""Save and load fitted estimators in one file, without ever executing its content."""

from skdeepgmm.persistence._file import load, save

__all__ = ["load", "save"]
