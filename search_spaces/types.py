"""Types that many modules share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Floats", "JsonMapping", "JsonObject", "Number"]

Number = int | float
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
JsonObject = dict[str, Any]
"""What JSON calls an object: read from a file, or to be written to one."""
JsonMapping = Mapping[str, Any]
"""The same, read only."""
