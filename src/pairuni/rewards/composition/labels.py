"""Detectors' names of COCO's 80 classes as GenEval's, whose prompts have spellings of their own."""

from __future__ import annotations

_ALIASES = {
    "mouse": "computer mouse",
    "remote": "tv remote",
    "keyboard": "computer keyboard",
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
    "hair dryer": "hair drier",
    "doughnut": "donut",
}
"""Other names in use, those of Pascal VOC among them, which RT-DETR's checkpoints have."""


def geneval_name(label: str) -> str:
    """GenEval's name of a class; a class that is not COCO's keeps its own, in lower case."""
    name = label.strip().lower().replace("_", " ")
    return _ALIASES.get(name, name)
