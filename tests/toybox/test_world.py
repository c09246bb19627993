"""The Toybox's world: scenes, their rendering, their captions, and exact compositions."""

from dataclasses import replace

import numpy as np
import pytest
import toy

from bico.toybox import captions, render, world
from bico.toybox.scenes import composition, scene_of
from bico.toybox.words import CLUTTER, LIGHTS, MOTIONS, SCENES, STYLES, SUBJECTS


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


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("motion", MOTIONS)
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


@pytest.mark.parametrize("look", [{"style": word} for word in STYLES] + [{"light": word} for word in LIGHTS])
def test_every_look_changes_the_picture_and_its_amount_shows(look: dict[str, str]):
    drawn = scene(6, **look)
    role, plain = next(iter(look)), replace(drawn, style=None, light=None)
    weak, strong = (
        render.render(replace(drawn, **{role: world.Look(look[role], amount)})).astype(float) for amount in (0.0, 1.0)
    )
    base = render.render(plain).astype(float)
    assert np.abs(weak - base).mean() > 3 and np.abs(strong - base).mean() > 3
    assert np.abs(strong - weak).mean() > 1


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_post_hides_a_part_of_an_occluded_subject_and_changes_nothing_else(subject: str):
    for seed in range(20):
        occluded, plain = (scene(seed, subject=subject, moving=False, occluded=there) for there in (True, False))
        assert replace(occluded, clutter=()) == plain and [item.kind for item in occluded.clutter] == ["post"]
        subject_there = render.masks(plain, num_frames=1)[0, 0]
        pictures = (render.render(each, num_frames=1)[0].astype(int) for each in (occluded, plain))
        hidden = subject_there & (np.abs(next(pictures) - next(pictures)) > 8).any(axis=-1)
        assert 0.15 < hidden.sum() / subject_there.sum() < 0.7


def test_masks_of_two_actors_do_not_overlap():
    seen = render.masks(scene(7, actors=2))
    assert seen.shape[0] == 2 and seen.any(axis=(1, 2, 3)).all() and not (seen[0] & seen[1]).any()


def test_who_is_later_in_the_list_stands_in_front():
    drawn = scene(7, actors=2)
    one, other = drawn.actors
    together = replace(drawn, actors=(replace(one, x=other.x, y=other.y, motion=other.motion), other))
    back, front = render.masks(together)
    assert np.array_equal(front, render.masks(replace(drawn, actors=(other,)))[0]) and back.sum() < front.sum() / 2


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
        drawn = scene(seed, looks=0.5, clutter=True, occluded=True)
        text = captions.caption(drawn, rng)
        named = captions.key_words(drawn)
        assert all(word in text for word in named["spatial"] + named["temporal"]), (text, named)
        assert not any(kind in text for kind in CLUTTER)


def test_captions_vary_and_leave_out_roles():
    drawn, rng = scene(8, subject="cat", scene="beach", motion="rising"), np.random.default_rng(0)
    texts = [captions.caption(drawn, rng, drop=0.3) for _ in range(100)]
    assert len(set(texts)) > 30
    for word in ("cat", "beach", "rising"):
        assert 40 < sum(word in text for text in texts) < 95
    assert not any("rising" in captions.caption(drawn, rng, motion=False) for _ in range(20))


@pytest.mark.parametrize("word", SCENES)
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
        about: dict[int, str] = {}
        for part in parts:
            about[part.about] = f"{about.get(part.about, '')} {part.text}"
        assert all(word in about[key] for key, word in words.items())
        assert "rising" in about[0]
        for key, noun in ((captions.SKY, "sky"), (captions.GROUND, "ground")):
            assert noun in about.get(key, noun)


def test_colours_go_round_the_circle():
    assert captions.colour_name(0.0) == captions.colour_name(0.99) == "red" and captions.colour_name(0.62) == "blue"


def test_colours_have_the_names_that_the_models_learned():
    hues = (0.02, 0.08, 0.16, 0.3, 0.5, 0.53, 0.6, 0.66, 0.75, 0.88, 0.97)
    names = "red orange yellow green cyan cyan blue blue purple pink red"
    assert " ".join(map(captions.colour_name, hues)) == names


def test_a_manner_says_what_the_trajectory_does():
    actor, rng = scene(10).actors[0], np.random.default_rng(0)

    def done(word: str, **drawn: float) -> tuple[str, np.ndarray]:
        motion = world.Motion(word, **{"speed": 0.5, "amplitude": 0.5, "phase": 0.5, "direction": 1} | drawn)
        moved = world.Scene((replace(actor, motion=motion),), scene(10).backdrop)
        return captions._manner(motion, rng, detail=1.0), render.trajectory(moved)[0]

    for direction, way in ((1, "right"), (-1, "left")):
        said, path = done("sliding", direction=direction)
        assert said == f"to the {way}" and direction * (path[-1, 0] - path[0, 0]) > 0.3
    lengths = {said: abs(path[-1, 0] - path[0, 0]) for said, path in (done("sliding", speed=s) for s in (0.1, 0.9))}
    assert list(lengths) == ["slowly to the right", "quickly to the right"]
    assert lengths["slowly to the right"] < lengths["quickly to the right"]
    for direction, way in ((1, "clockwise"), (-1, "counterclockwise")):
        said, path = done("spinning", direction=direction)
        assert said == way and direction * path[-1, 3] > 3
    for phase, begin in ((0.0, "right"), (0.25, "below"), (0.5, "left"), (0.75, "above")):
        said, path = done("circling", phase=phase, amplitude=0.9)
        first, second = path[:2, :2] - (path[:, :2].min(axis=0) + path[:, :2].max(axis=0)) / 2
        begins = {"right": first[0], "left": -first[0], "below": first[1], "above": -first[1]}
        assert said.startswith("widely clockwise from") and said.endswith(begin)
        assert max(begins, key=begins.get) == begin
        assert first[0] * second[1] - first[1] * second[0] > 0  # y points downwards
    for phase, begin, height in ((0.1, "below", np.max), (0.9, "above", np.min)):
        said, path = done("bouncing", phase=phase, speed=0.9)
        assert said == f"quickly from {begin}" and abs(path[0, 1] - height(path[:, 1])) < 0.05


@pytest.mark.parametrize("word", MOTIONS)
def test_the_opposite_of_a_motion_differs_in_all_that_words_say_of_it(word: str):
    motion = world.sample_motion(np.random.default_rng(0), word)
    other = motion.opposite()
    assert (other.word, other.direction) == (word, -motion.direction)
    assert (other.speed, other.amplitude) == (1 - motion.speed, 1 - motion.amplitude)
    assert other.phase == pytest.approx((motion.phase + 0.5) % 1 if word == "circling" else 1 - motion.phase)


def test_scenes_look_as_they_did_when_the_shipped_models_saw_them():
    """What a word draws and how it is painted: a truth that is rendered otherwise is another truth."""
    shown = []
    for number, subject in enumerate(SUBJECTS):
        words = {"subject": subject, "scene": SCENES[number % 5], "motion": MOTIONS[number]}
        looks = {"style": (None, *STYLES)[number % 4], "light": (*LIGHTS, None)[number % 4]}
        drawn = scene(number, **words, **looks, actors=1 + number % 2, clutter=number > 2)
        frames = render.render(drawn).astype(float)
        shown.append((frames * np.random.default_rng(0).standard_normal(frames.shape)).mean())
    assert shown == pytest.approx([-0.014, 0.185, 0.157, -0.244, 0.072, 0.270], abs=0.002)


def test_what_no_word_settles_is_drawn_by_the_prompt(tmp_path):
    config = toy.config(tmp_path)
    assert all(scene_of(entry) == toy.source_scene(config, source) for source, entry in config.sources.items())
    cat, car = (composition(config, f"a {word} in the city", {}) for word in ("cat", "car"))
    assert (cat.actors[0].word, car.actors[0].word, cat.backdrop.word) == ("cat", "car", "city")
    assert cat.backdrop.layout != car.backdrop.layout
    assert cat.actors[0].hue_a == pytest.approx(0.9623, abs=1e-4)
    kept = composition(config, "a cat bouncing in the city at night", {"subject": "red_cat", "motion": "bouncing_car"})
    subject, motion = toy.source_scene(config, "red_cat").actors[0], toy.source_scene(config, "bouncing_car").actors[0]
    assert (kept.actors[0].hue_a, kept.actors[0].motion) == (subject.hue_a, motion.motion)
    assert kept.light.word == "night" and kept.backdrop.word == "city"
