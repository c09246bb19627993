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


PHOTOGRAPHS = {
    "kind": "image", "spatial": ["cat"], "temporal": [], "captions": ["a cat", "the cat", "cat at a beach"],
    "frame_captions": [], "frame_indices": [], "caption_photos": [0, 1, 1],
}  # fmt: skip


def test_photographs_are_encoded_one_by_one_and_drawn_with_their_own_captions(backbone, tmp_path: Path) -> None:
    photos = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    encode_source(backbone, photos, PHOTOGRAPHS).save(tmp_path / "cat")
    encoded = EncodedSource.load(tmp_path / "cat")
    alone = [backbone.encode_clip(photos[number : number + 1]) for number in (0, 1)]
    assert torch.equal(encoded.latents, alone[0]) and torch.equal(encoded.photo_latents, torch.stack(alone))
    batch = encoded.draw(16, torch.Generator().manual_seed(0), frames=False)
    assert batch.latents.shape == (16, 4, 1, 4, 4) and batch.mask is None
    pairs = set()
    for latents, prompt_embeds in zip(batch.latents, batch.prompt_embeds, strict=True):
        caption = next(n for n, each in enumerate(encoded.prompt_embeds) if torch.equal(each, prompt_embeds))
        pairs.add((caption, next(n for n, each in enumerate(alone) if torch.equal(each, latents))))
    assert pairs == {(0, 0), (1, 1), (2, 1)}
    looks, _ = encoded.draw_looks(16, torch.Generator().manual_seed(0))
    assert all(any(torch.equal(each, look) for look in looks) for each in alone)


def test_one_photograph_is_encoded_as_an_image_and_nothing_is_drawn_of_it(backbone) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    encoded, draw = encode_source(backbone, photo, PHOTOGRAPHS), torch.Generator().manual_seed(0)
    assert set(encoded._tensors()) == {"latents", "prompt_embeds", "token_counts", "key_slots", "empty_prompt_embeds"}
    before = draw.get_state()
    looks, mask = encoded.draw_looks(3, draw)
    assert torch.equal(looks, encoded.latents[None].expand(3, -1, -1, -1, -1)) and mask is None
    assert torch.equal(draw.get_state(), before)


def test_masks_go_with_their_photographs_and_have_a_mean_of_one(backbone, tmp_path: Path) -> None:
    photos = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    left, one = np.zeros((32, 32), np.float32), np.zeros((32, 32), np.float32)
    left[:, :16], one[:8, :4] = 1, 1  # half of the places; half of one place
    encode_source(backbone, photos, PHOTOGRAPHS, [left, one]).save(tmp_path / "cat")
    encoded = EncodedSource.load(tmp_path / "cat")
    assert encoded.masks.shape == (2, 1, 1, 4, 4) and encoded.masks.mean(dim=(1, 2, 3, 4)).tolist() == [1, 1]
    assert encoded.masks[0, 0, 0].tolist() == [[2, 2, 0, 0]] * 4
    assert encoded.masks[1, 0, 0, 0].tolist() == [16, 0, 0, 0] and encoded.masks[1].count_nonzero() == 1
    batch = encoded.batch(torch.tensor([2, 0]), frames=False)
    assert torch.equal(batch.latents, encoded.photo_latents[[1, 0]]) and torch.equal(batch.mask, encoded.masks[[1, 0]])
