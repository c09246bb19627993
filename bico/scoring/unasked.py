"""Unasked things: what the sources of a case show but the case does not ask for. `truth_clean` measures them (Toybox
only).

A thing is a word of a role (the source's subject, scene, style or light) that neither the exact composition nor the
prompt has, or a kind of clutter. Motions are not included, because `truth_motion` measures them. The post of an
occluded source is not included either, because the probe does not know it. A post in a clip lowers `truth_concept`: it
hides a part of the subject.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bico.config.schema import Config
from bico.toybox.probe import Reading
from bico.toybox.scenes import scene_of
from bico.toybox.words import CLUTTER as KINDS
from bico.toybox.words import names
from bico.toybox.world import Clutter, Scene

ROLES = ("subject", "scene", "style", "light")
CLUTTER = "clutter"
Things = dict[str, frozenset[str]]
"""role -> words, and "clutter" -> kinds. Entries without any are left out."""


def of_case(config: Config, case_id: str, composition: Scene) -> Things:
    """Unasked things of all sources of a case."""
    found = [of_source(scene, composition, config.cases[case_id].prompt) for scene in _scenes(config, case_id)]
    named = dict.fromkeys(name for things in found for name in things)
    return {name: frozenset().union(*(things.get(name, ()) for things in found)) for name in named}


def of_source(scene: Scene, composition: Scene, prompt: str) -> Things:
    """Unasked things of one source, given the exact composition and the prompt of the case."""
    own, right = scene.words(), composition.words()
    things = {
        role: frozenset({own[role]})
        for role in ROLES
        if role in own and own[role] != right.get(role) and not names(prompt, own[role])
    }
    kinds = frozenset(item.kind for item in _clutter(scene))
    return things | ({CLUTTER: kinds} if kinds else {})


def most_probable(reading: Reading, things: Things) -> float:
    """The largest probability of a thing in the clip. The words of one role exclude each other, so their probabilities
    are added. Kinds of clutter are independent.
    """
    replaced = [sum(reading.words[role][word] for word in things[role]) for role in ROLES if role in things]
    return max(replaced + [reading.clutter[kind] for kind in things.get(CLUTTER, ())])


def spoiled(config: Config, case_id: str, composition: Scene) -> Iterator[Scene]:
    """The exact composition with all unasked things of one source added, once for each source that has any."""
    for scene in _scenes(config, case_id):
        things = of_source(scene, composition, config.cases[case_id].prompt)
        if things:
            yield _with(composition, scene, things)


def _with(composition: Scene, scene: Scene, things: Things) -> Scene:
    """The composition with these things of a scene. A replaced subject keeps the place and the motion of the right
    one."""
    actor = composition.actors[0]
    if "subject" in things:
        actor = replace(scene.actors[0], motion=actor.motion, x=actor.x, y=actor.y)
    return Scene(
        actors=(actor,),
        backdrop=scene.backdrop if "scene" in things else composition.backdrop,
        style=scene.style if "style" in things else composition.style,
        light=scene.light if "light" in things else composition.light,
        clutter=_clutter(scene),
    )


def _clutter(scene: Scene) -> tuple[Clutter, ...]:
    """Clutter of the kinds that the probe knows."""
    return tuple(item for item in scene.clutter if item.kind in KINDS)


def _scenes(config: Config, case_id: str) -> list[Scene]:
    """Scenes of the case's sources. A user's own files have none."""
    entries = [config.sources[source] for source in config.cases[case_id].bind]
    return [scene_of(entry) for entry in entries if entry.scene]
