"""What training reads of a source: its latents, its captions, and the draws from both."""

from pathlib import Path

import numpy as np
import torch

from bico.sources.encoding import EncodedSource, encode_source


def test_an_encoded_source_survives_its_file(sources, tmp_path: Path) -> None:
    for name, encoded in sources.items():
        encoded.save(tmp_path / name)
        opened = EncodedSource.load(tmp_path / name)
        assert all(torch.equal(opened._tensors()[name], tensor) for name, tensor in encoded._tensors().items())
        assert (opened.kind, opened.spatial, opened.temporal) == (encoded.kind, encoded.spatial, encoded.temporal)


def test_a_clip_is_encoded_whole_and_by_the_frames_that_captions_describe(backbone) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    concepts = {
        "kind": "video", "spatial": ["cat"], "temporal": ["bouncing"], "captions": ["a cat bouncing", "a cat"],
        "frame_captions": ["a cat", "the cat", "cat"], "frame_indices": [0, 2, 4],
    }  # fmt: skip
    encoded = encode_source(backbone, frames, concepts)
    assert torch.equal(encoded.latents, backbone.encode_clip(frames))
    assert torch.equal(encoded.frame_latents[1], backbone.encode_clip(frames[2:3]))
    assert encoded.token_counts.tolist() == [5, 3]
    assert encoded.key_slots[:, :5].tolist() == [[0, 1, 2, 2, 0], [0, 1, 0, 0, 0]]  # a cat bounc ing; a cat
    assert encoded.frame_prompt_embeds.shape == (3, 3, 32)  # the longest is two words and the end
    for kept, captions in ((encoded.prompt_embeds, "captions"), (encoded.frame_prompt_embeds, "frame_captions")):
        assert torch.equal(backbone.context(kept), backbone.context(backbone.encode_prompts(concepts[captions])[0]))
    still = encode_source(backbone, frames[:1], {**concepts, "kind": "image", "temporal": []})
    assert still.latents.shape == (4, 1, 4, 4)
    assert still.frame_latents is None


def test_frame_captions_mark_spatial_words_and_the_prompt_without_words_is_empty(backbone) -> None:
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    concepts = {
        "kind": "video", "spatial": ["cat"], "temporal": ["bouncing"], "captions": ["a cat bouncing"],
        "frame_captions": ["the cat"], "frame_indices": [0],
    }  # fmt: skip
    encoded = encode_source(backbone, frames, concepts)
    assert encoded.frame_key_slots[0, :3].tolist() == [0, 1, 0]
    assert torch.equal(encoded.empty_prompt_embeds, backbone.encode_prompts([""])[0][0, :5])  # as far as captions go


def test_frames_are_drawn_with_their_own_captions(sources) -> None:
    clip = sources["clip"]
    batch = clip.draw(8, torch.Generator().manual_seed(0), frames=True)
    for latents, prompt_embeds in zip(batch.latents, batch.prompt_embeds, strict=True):
        frame = next(i for i, each in enumerate(clip.frame_latents) if torch.equal(each, latents))
        assert torch.equal(prompt_embeds, clip.frame_prompt_embeds[frame])
