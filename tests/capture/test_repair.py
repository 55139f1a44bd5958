"""The repair of published models: the same function, only constants folded and operations rewritten."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from veilmatch.client.capture.runtime import OnnxModel
from veilmatch.client.models.repair import repair
from veilmatch.crypto.errors import ModelError

CHANNELS, BLOCK = 6, 4
RNG = np.random.default_rng(11)
WEIGHT = RNG.integers(-128, 128, (CHANNELS, 9), dtype=np.int8)
BLOCK_SCALE = RNG.uniform(0.01, 0.1, (CHANNELS, 3)).astype(np.float32)  # blocks of 4, 4 and 1
BLOCK_ZERO = RNG.integers(-5, 5, (CHANNELS, 3), dtype=np.int8)
BIAS = RNG.integers(-128, 128, CHANNELS, dtype=np.int8)
BIAS_SCALE = np.array(0.05, np.float32)
ROW_SCALE = RNG.uniform(0.01, 0.1, CHANNELS).astype(np.float32)
SLOPE = RNG.uniform(-0.5, 0.5, (CHANNELS, 1, 1)).astype(np.float32)


def published(*, slope_is_input: bool = False) -> bytes:
    """A small network with every construction that the published models have."""
    constants = {
        "w_q": WEIGHT,
        "w_scale": BLOCK_SCALE,
        "w_zero": BLOCK_ZERO,
        "w_shape": np.array([CHANNELS, 1, 3, 3], np.int64),
        "b_q": BIAS,
        "b_scale": BIAS_SCALE,
        "r_q": BIAS,
        "r_scale": ROW_SCALE,
        "slope": SLOPE,
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w_q", "w_scale", "w_zero"], ["w_flat"], axis=1, block_size=BLOCK),
        helper.make_node("Reshape", ["w_flat", "w_shape"], ["w"]),
        helper.make_node("DequantizeLinear", ["b_q", "b_scale"], ["b"]),
        helper.make_node("DequantizeLinear", ["r_q", "r_scale"], ["r"], axis=0),
        helper.make_node("Constant", [], ["shift"], value=numpy_helper.from_array(np.array(0.25, np.float32))),
        helper.make_node("Conv", ["image", "w", "b"], ["conv"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["conv", "slope"], ["active"]),
        helper.make_node("Dropout", ["active", "shift"], ["kept"]),
        helper.make_node("GlobalAveragePool", ["kept"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Mul", ["flat", "r"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["out"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])]
    inputs += [  # the stray inputs
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "published",
        inputs,
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, CHANNELS])],
        [numpy_helper.from_array(v, k) for k, v in constants.items() if not (slope_is_input and k == "slope")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def expected(image: np.ndarray) -> np.ndarray:
    """The same network, computed by hand in numpy."""
    per_column = np.repeat(np.arange(3), BLOCK)[:9]
    weight = (WEIGHT.astype(float) - BLOCK_ZERO[:, per_column]) * BLOCK_SCALE[:, per_column]
    padded = np.pad(image[0, 0].astype(float), 1)
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(8, 8, 9)
    conv = np.einsum("co,hwo->chw", weight, patches) + (BIAS * 0.05)[:, None, None]
    active = np.where(conv > 0, conv, SLOPE * conv)
    return np.asarray(active.mean(axis=(1, 2)) * BIAS.astype(float) * ROW_SCALE + 0.25)[None]


def test_the_repaired_network_computes_what_the_published_one_means() -> None:
    image = np.random.default_rng(2).standard_normal((1, 1, 8, 8)).astype(np.float32)
    repaired = OnnxModel(repair(published(), any_size=False))
    np.testing.assert_allclose(repaired.run(image)["out"], expected(image), rtol=1e-4, atol=1e-4)


def test_only_the_image_stays_an_input_and_only_plain_operations_stay() -> None:
    graph = onnx.load_model_from_string(repair(published(), any_size=False)).graph
    assert [value.name for value in graph.input] == ["image"]
    operations = {node.op_type for node in graph.node}
    assert operations.isdisjoint({"DequantizeLinear", "Reshape", "Constant", "Dropout", "PRelu"})
    assert {tensor.data_type for tensor in graph.initializer} == {TensorProto.FLOAT}


def test_repair_is_deterministic_and_repairing_again_changes_nothing() -> None:
    once = repair(published(), any_size=False)
    assert repair(published(), any_size=False) == once
    assert repair(once, any_size=False) == once


def test_a_slope_that_is_a_real_input_is_left_alone() -> None:
    graph = onnx.load_model_from_string(repair(published(slope_is_input=True), any_size=False)).graph
    assert [value.name for value in graph.input] == ["image", "slope"]
    assert "PRelu" in {node.op_type for node in graph.node}


def test_height_and_width_become_free_on_request() -> None:
    image = np.zeros((1, 1, 13, 21), np.float32)
    assert OnnxModel(repair(published(), any_size=True)).run(image)["out"].shape == (1, CHANNELS)
    with pytest.raises(ModelError, match="does not take this input"):
        OnnxModel(repair(published(), any_size=False)).run(image)


@pytest.mark.parametrize("data", [b"", b"not a model", b"\xff" * 50], ids=["empty", "text", "bytes"])
def test_what_is_not_a_model_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="cannot be repaired"):
        repair(data, any_size=False)
