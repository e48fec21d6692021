"""The trained detector as one ONNX graph: uint8 camera pixels in, anomaly map and score out."""

import copy
import logging
import warnings
from itertools import pairwise

import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from build_engines.graph import INPUT, IR_VERSION, OPSET, OUTPUTS
from distillation.detector import Detector


def export_onnx(detector: Detector) -> onnx.ModelProto:
    """Detector -> checked ONNX model with a free batch size.

    Input `pixels` uint8 (batch, H, W, 3) BGR; outputs `anomaly_map` float (batch, H, W) and `score` float
    (batch,). Batch normalisation is folded into the convolutions, so that every engine builder sees the
    same few layers.
    """
    folded = fold_batch_norms(copy.deepcopy(detector))
    height, width = detector.config.input_size
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes are for its authors
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            folded, (example,), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=[INPUT], output_names=list(OUTPUTS), dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    assert program is not None  # only None when it writes a file
    model = program.model_proto
    model.ir_version = IR_VERSION
    for value in model.graph.node:
        value.doc_string = ""
        del value.metadata_props[:]  # stack traces with paths of the machine that exported
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Put every batch normalisation into the convolution before it, in place: same numbers, one layer."""
    for parent in list(module.modules()):
        children = list(parent.named_children())
        for (name, first), (next_name, second) in pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(first, second))
                setattr(parent, next_name, nn.Identity())
    return module
