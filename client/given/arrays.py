"""Arrays from anywhere become plain numpy arrays: the one place where a foreign object is asked for its values.

Subclasses of ndarray change what indexing and shapes mean (a `numpy.matrix` never has three axes, and `numpy.repeat`
on one that was made to damages the heap), and objects of other libraries raise what they like.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from veilmatch.crypto.errors import InvalidInputError


def plain_array(value: object, what: str, refusal: type[InvalidInputError]) -> npt.NDArray[Any]:
    """Return what `value` holds as an ndarray of the base class, uncopied where that is possible.

    Raises `refusal` if it cannot be read as an array, whatever its own error was, or if values of it are masked: what
    lies under a mask is not meant. Neither error quotes a value.
    """
    try:
        array = np.asarray(value)
        masked = isinstance(value, np.ma.MaskedArray) and bool(np.ma.getmaskarray(value).any())
    except Exception:  # of whichever library the object is from; the text may quote values
        raise refusal(
            f"{what} cannot be read as an array",
            got=type(value).__name__,
            expected="a numpy array; of a tensor: tensor.detach().cpu().numpy()",
        ) from None
    if masked:
        raise refusal(f"{what} has masked values", got=type(value).__name__, expected="every value")
    return array
