"""Architecture, special ids and tokenizer of the tiny Lumina-DiMOO."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pairuni.digits.edits import EDIT_KINDS, random_edit
from pairuni.digits.questions import LETTER_SUFFIX
from pairuni.digits.scenes import SIZE
from pairuni.policies.lumina_dimoo.ids import NAMES, TokenIds
from pairuni.policies.lumina_dimoo.prompts import DRAWING, EDITING, QUESTION
from pairuni.policies.lumina_dimoo.sampling_config import SamplingConfig
from pairuni.policies.lumina_dimoo.vq import new_vq
from tools.pretraining.lessons import corpus

CODES = 512
VOCABULARY = 448

SAMPLING = SamplingConfig(
    image_size=SIZE,
    edit_size=SIZE,
    question_size=SIZE,
    image_steps=8,
    answer_length=8,
    text_block=8,
    text_steps=4,
    guidance=2.0,
    edit_guidance=2.0,
    image_guidance=1.0,
)
"""How the checkpoint samples unless a caller chooses otherwise."""

_TAGS = ("<system>", "</system>", "<user>", "</user>")
_RESERVED = {"newline": "<|reserved_0|>", "padding": "<|reserved_1|>"}
_SENTENCES = (QUESTION, DRAWING, EDITING, f" {LETTER_SUFFIX}")
"""Texts that never vary; a single token of each shortens the prompts by half."""


def texts(seed: int, instructions: int = 2000) -> Iterator[str]:
    """Texts of all kinds in the digits world, and instructions for edits."""
    yield from (text for _, text in corpus(seed))
    rng = np.random.default_rng([seed, 1])
    for row in range(instructions):
        yield random_edit(rng, EDIT_KINDS[row % len(EDIT_KINDS)], "train").instruction


def train_tokenizer(corpus: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with one token for each word of the digits world; it can encode any text.

    A text starts with a space, so that a word has the same token wherever it stands.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = [*NAMES.values(), *_RESERVED.values(), *_TAGS]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(_SENTENCES),
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in _SENTENCES])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=NAMES["end"])


def ids_of(tokenizer: PreTrainedTokenizerFast) -> TokenIds:
    """Special ids of the tokenizer; the picture codes follow its tokens."""
    names = {**NAMES, **_RESERVED}
    found = {role: tokenizer.convert_tokens_to_ids(token) for role, token in names.items()}
    return TokenIds(**found, codes=len(tokenizer), codebook=CODES)


def make_vq() -> nn.Module:
    """The untrained image tokenizer, whose codes stand for 8 x 8 pixels each."""
    channels = (32, 32, 64, 64)
    return new_vq(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        latent_channels=64,
        layers_per_block=1,
        mid_block_add_attention=False,
        norm_num_groups=8,
        num_vq_embeddings=CODES,
        sample_size=SIZE,
        vq_embed_dim=8,
        lookup_from_codebook=True,
    )


def make_model(ids: TokenIds) -> LlamaForCausalLM:
    """The untrained model. Its token embeddings have unit scale: smaller ones learn slowly next to Muon."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=ids.vocabulary,
            hidden_size=256,
            intermediate_size=640,
            num_hidden_layers=5,
            num_attention_heads=4,
            max_position_embeddings=256,
            rms_norm_eps=1e-5,
            initializer_range=0.06,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=ids.end,
            pad_token_id=None,
        )
    )
    nn.init.normal_(model.model.embed_tokens.weight)
    return model


@torch.no_grad()
def embed_codes(model: LlamaForCausalLM, ids: TokenIds, vq: Any) -> None:
    """Start the rows of the codes as projections of their vectors, so that similar codes begin alike."""
    vectors = vq.quantize.embedding.weight
    vectors = (vectors - vectors.mean(dim=0)) / vectors.std(dim=0)
    projection = torch.randn(vectors.shape[1], model.config.hidden_size) / vectors.shape[1] ** 0.5
    for rows in (model.model.embed_tokens.weight, model.lm_head.weight):
        rows[ids.codes :] += vectors @ projection * rows.std()
