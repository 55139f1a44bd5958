"""Repair of the published models: the same network, written so that onnxruntime runs it, and fast.

As published the weights are int8 blocks behind DequantizeLinear nodes of a kind that onnxruntime
refuses, and every weight is also listed as an input. Here constants are folded to plain float32
weights, stray inputs dropped, Dropout removed and PRelu split into operations that have
vectorised kernels (half the time of SFace). Equal bytes in give equal bytes out, so the result can be
pinned. Needs `onnx` (the `models` extra), once, at installation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from veilmatch.client.extras import needed
from veilmatch.crypto.errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

_Tensor = npt.NDArray[Any]


def repair(model: bytes, *, any_size: bool) -> bytes:
    """Return the repaired model. any_size: let the height and width of the input vary.

    Raises MissingExtraError if `onnx` is not installed, ModelError if model is not an ONNX model or the result is
    not valid.
    """
    with needed("models"):
        import onnx
    try:
        network = onnx.load_model_from_string(model)
        _rewrite(network)
        if any_size:
            _free_height_and_width(network)
        onnx.checker.check_model(network)
    except Exception as error:  # onnx and protobuf raise unrelated classes
        raise ModelError(
            "the model cannot be repaired",
            got=type(error).__name__,
            hint="Install the onnx that the extra `models` takes: pip install --upgrade 'veilmatch[models]'.",
        ) from error
    return bytes(network.SerializeToString(deterministic=True))


def _rewrite(network: ModelProto) -> None:
    from onnx import numpy_helper

    graph = network.graph
    constants: dict[str, _Tensor] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        folded = _fold(node, constants)
        if folded is not None:
            constants[node.output[0]] = folded
        else:
            nodes += _simplify(node, constants)

    used = {name for node in nodes for name in node.input}
    inputs = [value for value in graph.input if value.name in used and value.name not in constants]
    del graph.node[:], graph.initializer[:], graph.input[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(_tensor(name, constants[name]) for name in sorted(used & constants.keys()))
    graph.input.extend(inputs)


def _fold(node: NodeProto, constants: dict[str, _Tensor]) -> _Tensor | None:
    """Return the value of a node that only depends on constants, or None if it stays in the graph."""
    from onnx import numpy_helper

    attributes = _attributes(node)
    if node.op_type == "Constant":
        return numpy_helper.to_array(attributes["value"])
    if node.op_type not in ("DequantizeLinear", "Reshape") or any(i and i not in constants for i in node.input):
        return None
    operands = [constants[i] for i in node.input if i]
    if node.op_type == "Reshape":
        return operands[0].reshape(operands[1])
    return _dequantise(operands, axis=attributes.get("axis", 1), block=attributes.get("block_size", 0))


def _dequantise(operands: list[_Tensor], *, axis: int, block: int) -> _Tensor:
    """Return (x - zero_point) * scale with one scale a tensor, a slice along axis, or a block of it."""
    x, scale = operands[0].astype(np.float32), operands[1]
    zero = operands[2].astype(np.float32) if len(operands) == 3 else np.zeros_like(scale)
    if scale.size == 1:
        scale, zero = scale.reshape(()), zero.reshape(())
    elif block:
        # The last block of an axis may be cut short.
        scale, zero = (np.repeat(v, block, axis).take(range(x.shape[axis]), axis) for v in (scale, zero))
    else:
        along = [-1 if i == axis else 1 for i in range(x.ndim)]
        scale, zero = scale.reshape(along), zero.reshape(along)
    return np.asarray((x - zero) * scale, np.float32)


def _simplify(node: NodeProto, constants: dict[str, _Tensor]) -> list[NodeProto]:
    """Return what replaces a node at inference; adds the constants that the replacement needs."""
    if node.op_type == "Dropout":
        return [_node("Identity", [node.input[0]], node.output[0])]
    if node.op_type == "PRelu" and node.input[1] in constants:
        # PRelu(x) = slope * x + (1 - slope) * relu(x)
        x, y, slope = node.input[0], node.output[0], constants[node.input[1]].astype(np.float32)
        constants[f"{y}/slope"], constants[f"{y}/rest"] = slope, np.float32(1) - slope
        return [
            _node("Relu", [x], f"{y}/relu"),
            _node("Mul", [f"{y}/relu", f"{y}/rest"], f"{y}/positive"),
            _node("Mul", [x, f"{y}/slope"], f"{y}/all"),
            _node("Add", [f"{y}/positive", f"{y}/all"], y),
        ]
    return [node]


def _free_height_and_width(network: ModelProto) -> None:
    (image,) = network.graph.input
    for axis, name in ((2, "height"), (3, "width")):
        image.type.tensor_type.shape.dim[axis].dim_param = name
    for output in network.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"cells_{output.name}"


def _attributes(node: NodeProto) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _node(operation: str, inputs: list[str], output: str) -> NodeProto:
    from onnx import NodeProto

    return NodeProto(op_type=operation, name=output, input=inputs, output=[output])


def _tensor(name: str, value: _Tensor) -> TensorProto:
    # Written out instead of with onnx.numpy_helper, whose choice of fields is not promised to stay the same.
    from onnx import TensorProto, helper

    little_endian = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
        dims=value.shape,
        raw_data=little_endian.tobytes(),
    )
