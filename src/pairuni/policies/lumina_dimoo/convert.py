"""Conversion between the original layout and that of ``LlamaForCausalLM``, in both directions and bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from pairuni.io.files import atomic_folder
from pairuni.policies.conversion import ConversionReport, Layout, check_conversion
from pairuni.policies.lumina_dimoo.loading import load_checkpoint
from pairuni.policies.lumina_dimoo.model_config import config_to_transformers
from pairuni.policies.lumina_dimoo.tensor_names import to_transformers
from pairuni.policies.lumina_dimoo.vq import FOLDER
from pairuni.policies.lumina_dimoo.weights import read_config, save_tensors
from pairuni.policies.tensors import check_tensors, read_tensors


def convert_checkpoint(source: Path, target: Path, layout: Layout) -> ConversionReport:
    """As ``conversion.convert_checkpoint``.

    The transformers layout holds the weights under the names of ``LlamaForCausalLM``, for tools that know these; its
    attention is causal there, so that plain ``transformers`` loads the model but does not compute with it.
    """
    original, found = read_config(source)
    check_conversion(source, found, target, layout)
    checkpoint = load_checkpoint(source, weights=False)  # checks what is not converted
    config, _ = config_to_transformers(original, source / "config.json")
    tensors = read_tensors(source)
    if found == "original":
        tensors = to_transformers(tensors)
    with torch.device("meta"):
        check_tensors(tensors, LlamaForCausalLM(config).state_dict(), source)
    with atomic_folder(target) as folder:
        save_tensors(tensors, config, folder, layout, original=original)
        for name, content in checkpoint.files.items():
            (folder / name).write_bytes(content)
        shutil.copytree(source / FOLDER, folder / FOLDER)
    return ConversionReport(
        source_layout=found,
        target_layout=layout,
        tensors=len(tensors),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
    )
