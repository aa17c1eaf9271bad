"""Prepares the folder that is uploaded: weights or adapter, card, recipe, card of the data, samples."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairuni.io.files import write_text
from pairuni.io.markdown import split_front_matter
from pairuni.io.publishing import CARD, check_name
from pairuni.pairug.dataset.card import MARK, public_name
from pairuni.pairug.dataset.publishing import shared_card
from pairuni.pairug.dataset.store import read_pairs
from pairuni.policies.adapters import CONFIG, WEIGHTS
from pairuni.policies.files import read_json
from pairuni.policies.registry import resolve
from pairuni.runs.models import export_checkpoint, merge_adapter, model_folder_of
from pairuni.sharing.card import DATA_CARD, RECIPE, CardFacts, model_card
from pairuni.sharing.recipe import shared_recipe
from pairuni.sharing.samples import SAMPLES, Samples, write_samples
from pairuni.sharing.scores import scores_of
from pairuni.sharing.source import Base, Source, base_of_run

STALE = ("*.safetensors", "*.safetensors.index.json", CONFIG, f"{SAMPLES}/*.png", DATA_CARD)
"""Remote files that a push replaces: those of a model in other shards, or of more samples."""

_SUFFIXES = {".json", ".jinja", ".txt", ".model", ".safetensors"}
"""Of the files of a model's folder that are shared: weights, configuration, tokenizer, processor."""

Place = Callable[[Path, Path], object]
"""Puts a file at a target: copies or links it."""


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """repo: hub name; revision: branch. merge: whole weights instead of an adapter. base: hub name of the base model.
    data: hub name of the pairs. license: identifier for the card. results: files of benchmark results. samples: whether
    samples are shared."""

    repo: str
    revision: str | None = None
    merge: bool = False
    base: str | None = None
    data: str | None = None
    license: str | None = None
    results: Sequence[Path] = ()
    samples: bool = True

    def __post_init__(self) -> None:
        for name in (self.repo, self.base, self.data):
            if name is not None:
                check_name(name)


def prepare_folder(source: Source, folder: Path, sharing: Sharing, *, copy: bool) -> None:
    """Fill an empty folder with what is shared.

    copy: copy the files of final/, which are linked otherwise. Raises ValueError for an adapter whose base model is not
    on the hub, for results that cannot be read, and as loading a checkpoint does; OSError if the disk is full.
    """
    base = base_of_run(source.settings, sharing.base)
    adapter = source.is_adapter and not sharing.merge
    if sharing.merge and not source.is_adapter:
        raise ValueError(
            f"{source.weights} is not an adapter, so there is nothing to merge; leave out --merge"
        )
    if adapter and (base.hub is None or base.earlier_run):
        named = public_name(source.settings["policy"]["model"])
        raise ValueError(
            f"the adapter needs its base model, {named}, which others cannot load: give its hub name with --base, "
            "or share whole weights with --merge"
        )
    scores = scores_of(source, sharing.results)
    _write_weights(source, folder, base, merge=sharing.merge, place=shutil.copyfile if copy else _link)
    samples = write_samples(source, folder) if sharing.samples else Samples([], [], "")
    write_text(folder / RECIPE, shared_recipe(source.settings, base))
    pairs = _write_data_card(source, folder, sharing)
    config = read_json((_base_folder(source) if adapter else folder) / "config.json")
    facts = CardFacts(
        repo=sharing.repo,
        revision=sharing.revision,
        source=source,
        base=base,
        architecture=_architecture(config.get("architectures")),
        model_type=str(config.get("model_type")),
        adapter=adapter,
        scores=scores,
        samples=samples,
        pairs=pairs,
        data=sharing.data,
        license=sharing.license or base.license,
    )
    write_text(folder / CARD, model_card(facts))


def _base_folder(source: Source) -> Path:
    """The folder with the configuration of the model that training began with."""
    name = str(source.settings["policy"]["model"])
    return model_folder_of(name) or resolve(name, weights=False)


def _write_weights(source: Source, folder: Path, base: Base, *, merge: bool, place: Place) -> None:
    if not source.is_final:
        export_checkpoint(source.weights, folder)
    elif not source.is_adapter:
        for path in sorted(source.weights.rglob("*")):
            name = path.relative_to(source.weights)
            if (
                path.is_file()
                and path.suffix in _SUFFIXES
                and not any(one.startswith(".") for one in name.parts)
            ):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                place(path, folder / name)
    elif merge:
        merge_adapter(source.weights, folder)
    else:
        place(source.weights / WEIGHTS, folder / WEIGHTS)
        config = {**read_json(source.weights / CONFIG), "base_model_name_or_path": base.hub}
        write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def _link(source: Path, target: Path) -> None:
    target.symlink_to(source.resolve())


def _write_data_card(source: Source, folder: Path, sharing: Sharing) -> dict[str, int]:
    """Write the card of the pairs; returns their number by kind, empty if the pair file was not found."""
    file = source.run.pairs_file
    if file is None:
        return {}
    pairs = read_pairs(file)
    name = sharing.data or f"pairs of {sharing.repo}"
    _, text = split_front_matter(shared_card(file, pairs, name.rpartition("/")[2] if sharing.data else name))
    write_text(folder / DATA_CARD, text.replace(MARK, "").lstrip("\n"))
    return dict(Counter(pair.kind for pair in pairs).most_common())


def _architecture(architectures: object) -> str | None:
    """The class of plain ``transformers`` that config.json names."""
    import transformers

    name = architectures[0] if isinstance(architectures, list) and architectures else None
    return name if isinstance(name, str) and hasattr(transformers, name) else None


def folder_size(folder: Path) -> tuple[int, int]:
    """(number of files, their bytes) in a folder, links followed."""
    sizes = [os.stat(path).st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)
