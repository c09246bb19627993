"""The Toybox's world: scenes, their rendering, their captions, and exact compositions."""

from dataclasses import replace

import numpy as np
import pytest

from bico.toybox import captions, render, world


def scene(seed: int, **words) -> world.Scene:
    return world.sample_scene(np.random.default_rng(seed), **words)


def test_a_scene_survives_its_json():
    for seed in range(20):
        drawn = world.sample_training_scene(np.random.default_rng(seed))
        assert world.Scene.from_dict(drawn.to_dict()) == drawn


def test_words_that_are_given_are_kept_and_all_else_varies():
    one, other = scene(1, subject="cat", scene="beach"), scene(2, subject="cat", scene="beach")
    assert one.actors[0].word == other.actors[0].word == "cat" and one.backdrop.word == other.backdrop.word == "beach"
    assert one.actors[0].hue_a != other.actors[0].hue_a and one.backdrop.layout != other.backdrop.layout


@pytest.mark.parametrize("subject", world.SUBJECTS)
@pytest.mark.parametrize("motion", world.MOTIONS)
def test_every_subject_moves_and_is_seen_where_its_trajectory_says(subject: str, motion: str):
    drawn = scene(3, subject=subject, motion=motion)
    frames, seen = render.render(drawn), render.masks(drawn)[0]
    assert frames.shape == (9, 48, 48, 3) and frames.dtype == np.uint8
    assert len(np.unique(frames.reshape(9, -1), axis=0)) > 2  # it moves
    path = render.trajectory(drawn)[0]
    for mask, (x, y, _, _) in zip(seen, path, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows) and 0.3 < x < 0.7 and 0.3 < y < 0.7:  # wholly inside the frame
            assert abs((columns.mean() + 0.5) / 48 - x) < 0.1 and abs((rows.mean() + 0.5) / 48 - y) < 0.13


def test_rendering_is_a_function_of_the_scene():
    drawn = scene(4, style="poster", light="fog", clutter=True)
    assert np.array_equal(render.render(drawn), render.render(drawn))


def test_a_still_is_the_first_frame_of_nothing_moving():
    drawn = scene(5).still()
    clip = render.render(drawn)
    assert (clip == clip[0]).all() and np.array_equal(render.render(drawn, num_frames=1)[0], clip[0])


@pytest.mark.parametrize(
    "look", [{"style": word} for word in world.STYLES] + [{"light": word} for word in world.LIGHTS]
)
def test_every_look_changes_the_picture_and_its_amount_shows(look: dict[str, str]):
    drawn = scene(6, **look)
    role, plain = next(iter(look)), replace(drawn, style=None, light=None)
    weak, strong = (
        render.render(replace(drawn, **{role: world.Look(look[role], amount)})).astype(float) for amount in (0.0, 1.0)
    )
    base = render.render(plain).astype(float)
    assert np.abs(weak - base).mean() > 3 and np.abs(strong - base).mean() > 3
    assert np.abs(strong - weak).mean() > 1


def test_masks_of_two_actors_do_not_overlap():
    seen = render.masks(scene(7, actors=2))
    assert seen.shape[0] == 2 and seen.any(axis=(1, 2, 3)).all() and not (seen[0] & seen[1]).any()


def test_a_composition_takes_every_role_from_its_source():
    a, b, c, d = (scene(seed, motion="sliding") for seed in range(10, 14))
    styled = replace(d, style=world.Look("sepia", 0.5))
    truth = world.compose(subject=a, scene=b, motion=c, style=styled)
    actor = truth.actors[0]
    assert (actor.hue_a, actor.pattern, actor.size) == (a.actors[0].hue_a, a.actors[0].pattern, a.actors[0].size)
    assert truth.backdrop == b.backdrop and actor.motion == c.actors[0].motion and truth.style == styled.style
    assert np.allclose(render.trajectory(truth)[0, :, :2], render.trajectory(c)[0, :, :2])


def test_captions_name_what_is_there_and_never_clutter():
    rng = np.random.default_rng(0)
    for seed in range(200):
        drawn = scene(seed, looks=0.5, clutter=True)
        text = captions.caption(drawn, rng)
        named = captions.key_words(drawn)
        assert all(word in text for word in named["spatial"] + named["temporal"]), (text, named)
        assert not any(kind in text for kind in world.CLUTTER)


def test_captions_vary_and_leave_out_roles():
    drawn, rng = scene(8, subject="cat", scene="beach", motion="rising"), np.random.default_rng(0)
    texts = [captions.caption(drawn, rng, drop=0.3) for _ in range(100)]
    assert len(set(texts)) > 30
    for word in ("cat", "beach", "rising"):
        assert 40 < sum(word in text for text in texts) < 95
    assert not any("rising" in captions.caption(drawn, rng, motion=False) for _ in range(20))


@pytest.mark.parametrize("word", world.SCENES)
def test_ground_is_what_the_hue_of_the_ground_paints(word):
    backdrop = scene(5, scene=word).backdrop
    ground = render.ground_mask(backdrop)
    assert 0.03 < ground.mean() < 0.8
    other_sky = replace(backdrop, sky=(backdrop.sky + 0.3) % 1)
    assert (render.ground_mask(other_sky) == ground).mean() > 0.99  # but for an edge's rounding


def test_phrases_say_what_they_are_about():
    drawn, rng = scene(9, actors=2, looks=1.0, motion="rising"), np.random.default_rng(0)
    words = {0: drawn.actors[0].word, 1: drawn.actors[1].word, captions.BACKDROP: drawn.backdrop.word}
    for _ in range(50):
        parts = captions.phrases(drawn, rng)
        assert captions.caption(drawn, np.random.default_rng(1)) == " ".join(
            part.text for part in captions.phrases(drawn, np.random.default_rng(1))
        )
        about = {part.about: part.text for part in parts}
        assert all(word in about[key] for key, word in words.items())
        assert "rising" in about[0]
        for key, noun in ((captions.SKY, "sky"), (captions.GROUND, "ground")):
            assert noun in about.get(key, noun)


def test_colours_go_round_the_circle():
    assert captions.colour_name(0.0) == captions.colour_name(0.99) == "red" and captions.colour_name(0.62) == "blue"
