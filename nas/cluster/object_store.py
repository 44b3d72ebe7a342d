"""Values shared by driver and evaluators in Ray's object store; their arrays are mapped, not copied."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
import warnings
from typing import Any

import numpy as np

from nas.cluster.connection import ray_message
from search_spaces import NasError

__all__ = ["packed", "shared", "unpacked"]


def shared(ray: Any, value: Any) -> Any:
    """A reference to `value` in the object store; its arrays and CPU tensors will be mapped from there, not copied."""
    data, buffers = packed(value)
    size = len(data) + sum(buffer.nbytes for buffer in buffers)
    errors = importlib.import_module("ray.exceptions")
    try:
        return ray.put((data, buffers))
    except (errors.ObjectStoreFullError, errors.OutOfDiskError) as error:
        raise NasError(
            f"the score ({size / 1e6:,.0f} MB) does not fit Ray's object store: start the cluster with a larger one "
            f"(ray start --object-store-memory BYTES) or free the disk it spills to ({ray_message(error)})"
        ) from None


def packed(value: Any) -> tuple[bytes, list[Any]]:
    """A pickle, and the buffers that it refers to."""
    cloudpickle = importlib.import_module("ray.cloudpickle")
    torch = sys.modules.get("torch")

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc, name-defined]
        def reducer_override(self, value: Any) -> Any:
            if torch is not None and type(value) is torch.Tensor and _mappable(torch, value):
                return _tensor, (value.numpy(),)
            return super().reducer_override(value)

    file, buffers = io.BytesIO(), []  # type: ignore[var-annotated]
    try:
        Pickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise NasError(f"the score cannot be sent to evaluators, because it cannot be pickled: {error}") from None
    return file.getvalue(), [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]


def _mappable(torch: Any, tensor: Any) -> bool:
    """Whether numpy can hold it; numpy has no bfloat16."""
    plain = tensor.device.type == "cpu" and tensor.layout == torch.strided and not tensor.requires_grad
    return bool(plain and tensor.dtype != torch.bfloat16 and not tensor.is_quantized)


def _tensor(array: Any) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is read-only: the object store is shared
        return torch.from_numpy(array)


def unpacked(packed: tuple[bytes, list[Any]], device: str) -> Any:
    value = pickle.loads(packed[0], buffers=packed[1])
    return value if device == "cpu" else value.to(device)
