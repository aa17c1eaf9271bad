"""Baselines: the rollout loops and the update of other trainers, rewritten for measurement.

``transformers_rollout`` calls the library. The others reimplement the public Janus trainers ULM-R1 and T2I-R1: a cache
that grows by copying, alternating conditional and unconditional rows, a mask that grows by one column per step,
``multinomial``, and for the update one padded forward pass per task that repeats every prompt and image for its K
trajectories and computes logits at every position. tests/bench compares their greedy tokens and log-probs with ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from pairuni.policies.autoregressive import ImageTokens, TextTokens
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.policies.trajectories import TrajectoryLogProbs

UPDATE_STEPS = ("images-once", "sampled-positions")
"""Optimizations of ours that can be added to the peers' update, one after the other."""


def _left_padded(policy: JanusPolicy, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Ids [P, S] of image prompts, left-padded, and the mask, 1 on real tokens."""
    rows = [policy.prompts.generation(prompt) for prompt in prompts]
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), policy.prompts.pad)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, width - len(row) :] = row
        mask[place, width - len(row) :] = 1
    return ids.to(policy.device), mask.to(policy.device)


def transformers_rollout(
    policy: JanusPolicy, prompts: Sequence[str], *, rollouts: int, temperature: float, guidance: float
) -> Tensor:
    """``generate(generation_mode="image")`` on the complete batch: tokens [P K, T], prompt by prompt.

    Needs guidance > 1, which the library requires for images. Returns tokens without log-probs.
    """
    ids, mask = _left_padded(policy, prompts)
    how = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    tokens: Tensor = policy.module.generate(
        inputs=ids,
        attention_mask=mask,
        generation_mode="image",
        guidance_scale=guidance,
        num_return_sequences=rollouts,
        top_k=0,
        top_p=1.0,
        **how,
    )
    return tokens


@torch.no_grad()
def peers_rollout(
    policy: JanusPolicy, prompts: Sequence[str], *, rollouts: int, temperature: float, guidance: float
) -> Tensor:
    """The peers' eager loop over the prompts given: tokens [P K, T]. Peers call it with one prompt at a time."""
    model = policy.module
    ids, mask = _left_padded(policy, prompts)
    ids, mask = ids.repeat_interleave(2 * rollouts, dim=0), mask.repeat_interleave(2 * rollouts, dim=0)
    inner = ids[1::2]
    kept = (inner == policy.prompts.bos) | (inner == policy.prompts.begin_image)
    ids[1::2] = torch.where(kept, inner, policy.prompts.pad)
    embeds = model.get_input_embeddings()(ids)
    tokens = torch.zeros(len(ids) // 2, policy.image_tokens, dtype=torch.long, device=ids.device)
    cache = DynamicCache(config=model.config.text_config)
    for step in range(policy.image_tokens):
        states = model.model.language_model(
            inputs_embeds=embeds,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        logits = model.model.generation_head(states[:, -1])
        conditional, unconditional = logits[0::2], logits[1::2]
        logits = unconditional + guidance * (conditional - unconditional)
        if temperature > 0:
            probabilities = torch.softmax(logits / temperature, dim=-1)
            chosen = torch.multinomial(probabilities, num_samples=1)
        else:
            chosen = logits.argmax(dim=-1, keepdim=True)
        tokens[:, step] = chosen.squeeze(1)
        both = torch.cat([chosen, chosen], dim=1).view(-1)
        embeds = model.prepare_embeddings_for_image_generation(both).unsqueeze(1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return tokens


def text_forward(
    policy: JanusPolicy, trajectories: Sequence[TextTokens], *, given: Sequence[str] = ()
) -> TrajectoryLogProbs:
    """The peers' forward pass over answers: log-probs [N, T] of the sampled tokens, with gradient.

    given: names of ``UPDATE_STEPS``; none for the peers' update.
    """
    model = policy.module
    sequences = [torch.cat([one.prompt_ids, one.tokens]) for one in trajectories]
    ids = nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=policy.prompts.pad)
    ids = ids.to(policy.device)
    lengths = torch.tensor([len(one) for one in sequences], device=policy.device)
    places = torch.arange(ids.shape[1], device=policy.device)
    mask = (places[None] < lengths[:, None]).long()
    prompts = torch.tensor([len(one.prompt_ids) for one in trajectories], device=policy.device)
    pixels = [image for one in trajectories for image in one.pixel_values]
    embeds = model.get_input_embeddings()(ids)
    if pixels:
        features = _repeated_features(policy, pixels, once="images-once" in given)
        shown = (ids == policy.prompts.image) & (places[None] < prompts[:, None])
        embeds = embeds.masked_scatter(shown.unsqueeze(-1), features.to(embeds.dtype))
    states = model.model.language_model(
        inputs_embeds=embeds, attention_mask=mask, use_cache=False
    ).last_hidden_state
    temperatures = torch.tensor([one.temperature or 1.0 for one in trajectories], device=policy.device)
    counts = [len(one.tokens) for one in trajectories]
    targets = [one.tokens.to(policy.device) for one in trajectories]
    if "sampled-positions" in given:
        kept = [
            states[row, length - count - 1 : length - 1]
            for row, (length, count) in enumerate(zip(lengths.tolist(), counts, strict=True))
        ]
        return _padded(_scores(model.lm_head(torch.cat(kept)), targets, temperatures))
    scaled = model.lm_head(states)[:, :-1].float() / temperatures[:, None, None]
    every = torch.log_softmax(scaled, dim=-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return _padded(
        [
            every[row, length - count - 1 : length - 1]
            for row, (length, count) in enumerate(zip(lengths.tolist(), counts, strict=True))
        ]
    )


def image_forward(
    policy: JanusPolicy, trajectories: Sequence[ImageTokens], *, given: Sequence[str] = ()
) -> TrajectoryLogProbs:
    """The peers' forward pass over images, all of one guidance and branch: log-probs [N, T], with gradient.

    Guided log-probs take unconditional rows in the same pass, one after each conditional row.
    """
    model, device = policy.module, policy.device
    guidance, branch = trajectories[0].guidance, trajectories[0].branch
    guided = branch == "guided" and guidance != 1.0
    rows = []
    for one in trajectories:
        rows.append(one.prompt_ids)
        if guided:
            rows.append(policy.prompts.unconditional(one.prompt_ids))
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), policy.prompts.pad)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, width - len(row) :] = row
        mask[place, width - len(row) :] = 1
    tokens = torch.stack([one.tokens for one in trajectories]).to(device)
    fed = tokens.repeat_interleave(2, dim=0) if guided else tokens
    image_embeds = model.prepare_embeddings_for_image_generation(fed)
    embeds = torch.cat([model.get_input_embeddings()(ids.to(device)), image_embeds], dim=1)
    mask = torch.cat([mask, torch.ones(fed.shape, dtype=torch.long)], dim=1).to(device)
    states = model.model.language_model(
        inputs_embeds=embeds,
        attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    sampled_only = "sampled-positions" in given
    logits = model.model.generation_head(states[:, width - 1 : -1] if sampled_only else states).float()
    if guided:
        conditional, unconditional = logits[0::2], logits[1::2]
        logits = unconditional + guidance * (conditional - unconditional)
    temperatures = torch.tensor([one.temperature or 1.0 for one in trajectories], device=device)
    every = torch.log_softmax(logits / temperatures[:, None, None], dim=-1)
    scored = every if sampled_only else every[:, width - 1 : -1]
    return _padded(list(scored.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)))


def _repeated_features(policy: JanusPolicy, pixels: Sequence[Tensor], *, once: bool) -> Tensor:
    """[sum of T, H] image embeddings, an image for each trajectory; once: equal images are encoded once."""
    core = policy.module.model
    distinct = {id(image) if once else place: image for place, image in enumerate(pixels)}
    stacked = torch.stack(list(distinct.values())).to(policy.device, policy.module.dtype)
    aligned = core.aligner(core.vision_model(stacked).last_hidden_state)
    if once:
        places = {key: place for place, key in enumerate(distinct)}
        aligned = aligned[[places[id(image)] for image in pixels]]
    return aligned.flatten(0, 1)


def _scores(logits: Tensor, targets: Sequence[Tensor], temperatures: Tensor) -> list[Tensor]:
    """Logits at sampled positions [sum of T, V] -> log-probs of each trajectory."""
    counts = [len(one) for one in targets]
    repeated = temperatures.repeat_interleave(torch.tensor(counts, device=temperatures.device))
    every = torch.log_softmax(logits.float() / repeated.unsqueeze(1), dim=-1)
    return list(every.gather(1, torch.cat(list(targets)).unsqueeze(1)).squeeze(1).split(counts))


def _padded(rows: Sequence[Tensor]) -> TrajectoryLogProbs:
    values = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row.detach()) for row in rows], batch_first=True)
    return TrajectoryLogProbs(values=values, mask=mask)
