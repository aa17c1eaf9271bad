"""GPUs by their data sheets, and the shares of their peak rates that estimates count on."""

from __future__ import annotations

from dataclasses import dataclass, replace

USABLE = 0.9
"""Share of a GPU's memory for tensors; the rest goes to the driver, kernels and fragmentation."""
COMPUTE, BANDWIDTH, LINK = 0.35, 0.5, 0.6
"""Assumed shares of peak rates that matrix products, reading weights, and collectives reach."""

NODE = 8
"""GPUs of a node; larger numbers communicate at the rate of the network."""


@dataclass(frozen=True)
class Card:
    """A GPU by its data sheet.

    memory: bytes; bandwidth: bytes a second; bfloat16, float32: dense operations a second. link: bytes a second that
    a GPU sends to the others of its node; network: its share of what its node sends to other nodes.
    """

    name: str
    memory: float
    bandwidth: float
    bfloat16: float
    float32: float
    link: float = 0.0
    network: float = 0.0

    @property
    def usable(self) -> float:
        """Bytes for tensors."""
        return USABLE * self.memory


CARDS = (
    Card("24 GB (RTX 4090)", 24e9, 1.01e12, 165e12, 83e12, link=32e9, network=1.5e9),
    Card("40 GB (A100)", 40e9, 1.56e12, 312e12, 19.5e12, link=300e9, network=25e9),
    Card("48 GB (L40S)", 48e9, 0.86e12, 362e12, 92e12, link=32e9, network=1.5e9),
    Card("80 GB (H100)", 80e9, 3.35e12, 989e12, 67e12, link=450e9, network=50e9),
    Card("141 GB (H200)", 141e9, 4.8e12, 989e12, 67e12, link=450e9, network=50e9),
)
"""GPUs for which the plan of one device is shown.

Links: NVLink 4 and 3 of the SXM modules, PCIe 4.0 x16 of the RTX 4090 and the L40S, one direction. Networks: those of a
DGX H100 (400 Gb/s a GPU) and a DGX A100 (200 Gb/s a GPU); for eight RTX 4090 or L40S, 100 Gb/s a node.
"""

_RTX_4090, _A100, _, _H100, _ = CARDS

NODES = (
    replace(_H100, name="H100 80GB"),
    Card("A100 80GB", 80e9, 2.04e12, 312e12, 19.5e12, link=300e9, network=25e9),
    replace(_A100, name="A100 40GB"),
    replace(_RTX_4090, name="RTX 4090 24GB"),
)
"""GPUs for which the plan of several devices is shown."""
