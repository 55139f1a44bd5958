"""The libraries that only a capturing device has: Pillow, onnxruntime (the `device` extra), LiteRT (the `mesh` extra).

They are imported here on first use, so that the rest of the SDK runs without them. Nothing else imports onnxruntime:
its wheels report to their maker, on Linux since 1.29. On import they leave an identifier of the machine and a queue in
the user's cache folder, and they look up the maker's host, unless the environment forbids it at that moment; an import
that came before, in a program that uses onnxruntime itself, is that program's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from veilmatch.client.extras import needed
from veilmatch.crypto.errors import ModelError

FloatTensor = npt.NDArray[np.float32]

#: Left in the environment, so that processes started from here do not report either.
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


def require_pillow() -> None:
    """Raise MissingExtraError if Pillow is not installed."""
    with needed("device"):
        import PIL.Image  # noqa: F401


def _import_onnxruntime() -> Any:
    os.environ[_NO_TELEMETRY] = "1"
    with needed("device"):
        import onnxruntime
    return onnxruntime


class OnnxModel:
    """An ONNX model with one input, run on the CPU by onnxruntime.

    model: the serialised ONNX file. threads: at least 1; 1 keeps a device responsive and makes the
    result independent of the number of cores. `run` may be called from several threads at once.
    Raises MissingExtraError if onnxruntime is not installed, ModelError if it refuses the model.
    """

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        onnxruntime = _import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exception classes share no public base
            raise ModelError(
                "onnxruntime refuses the model",
                got=type(error).__name__,
                hint="Install another version of onnxruntime, or free memory; `veilmatch models list` checks files.",
            ) from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise ModelError("a face model has one input", got=len(inputs), expected=1)
        self._input: str = inputs[0].name
        self._outputs: list[str] = [output.name for output in self._session.get_outputs()]

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Return the shape of its input; None for a side that may vary."""
        return _known(self._session.get_inputs()[0].shape)

    @property
    def output_shapes(self) -> tuple[tuple[int | None, ...], ...]:
        """Return the shape of each output; None for a side that may vary."""
        return tuple(_known(output.shape) for output in self._session.get_outputs())

    def run(self, tensor: FloatTensor) -> Mapping[str, FloatTensor]:
        """Return every output by its name. tensor: float32.

        Raises ModelError if the model does not take a tensor of this shape.
        """
        try:
            results = self._session.run(None, {self._input: np.ascontiguousarray(tensor)})
        except Exception as error:
            raise ModelError("the model does not take this input", got=tensor.shape) from error
        return dict(zip(self._outputs, results, strict=True))


class LiteRtModel:
    """A TensorFlow Lite model with one input, run on one core by LiteRT. model: the file.

    `run` may be called from several threads; they wait for each other. Raises MissingExtraError if LiteRT is not
    installed, ModelError if it refuses the model.
    """

    def __init__(self, model: bytes) -> None:
        with needed("mesh"):
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        try:
            self._interpreter: Any = Interpreter(
                model_content=model,
                num_threads=1,
                # Its faster kernels announce themselves on standard error.
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError("LiteRT refuses the model", got=type(error).__name__) from error
        (self._input,) = (tensor["index"] for tensor in self._interpreter.get_input_details())
        self._outputs = [tensor["index"] for tensor in self._interpreter.get_output_details()]
        self._turn = Lock()

    def run(self, tensor: FloatTensor) -> list[FloatTensor]:
        """Return every output, in the model's order. tensor: float32, of the shape that the model takes."""
        with self._turn:
            try:
                self._interpreter.set_tensor(self._input, tensor)
                self._interpreter.invoke()
            except (ValueError, RuntimeError) as error:
                raise ModelError("the model does not take this input", got=tensor.shape) from error
            return [self._interpreter.get_tensor(output) for output in self._outputs]


def _known(shape: list[object]) -> tuple[int | None, ...]:
    return tuple(side if isinstance(side, int) and side > 0 else None for side in shape)
