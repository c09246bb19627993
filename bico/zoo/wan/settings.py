"""Sizes and training settings of the text-to-video model."""

from __future__ import annotations

from dataclasses import dataclass

# --- sizes ----------------------------------------------------------------------------------------------------------

TEXT_WIDTH, WIDTH, HEADS, BLOCKS, FFN = 128, 192, 4, 6, 768
# The relative positions that the heads of each text encoder layer start with, and the bias for them; None = all alike.
NEIGHBOURS = ((1, -1, 2, -2, None, None), (1, -1, 3, 0, None, None), (3, -3, 6, 2, None, None))
NEIGHBOUR_BIAS = 4.0
PATCHES = (1, 1, 1)  # a patch token for each latent cell, so that words act just where their subject is
TOKENS = 64  # tokens of a caption; the longest possible caption has 63, so there is always a slot of padding
# The DiT attends to padding slots. We run folders with 64 slots, diffusers with 512 by default; training sees both, as
# one weighted slot.
TEXT_SLOTS = (64, 512)
ACTORS = 2  # at most, in a clip
REGIONS = ACTORS + 2  # and the ground, and the sky

# --- data -----------------------------------------------------------------------------------------------------------

CORPUS = 8_000  # scenes whose captions make the tokenizer
HARD = ("spinning", "spinning", "bouncing", "circling")  # motions of every fourth clip: these take longest to learn
TELLINGS = 4  # captions of a scene
DROP = 0.15  # probability that a caption leaves out a role

# --- training -------------------------------------------------------------------------------------------------------

TEXT_BATCH = 256
STILL_BATCH, CLIP_BATCH = {"cpu": 256, "cuda": 2_048}, {"cpu": 48, "cuda": 512}
EMA = 0.998  # decay of the moving average of the weights
SHIFT = 3.0  # timestep shift, in training and in sampling
UNCONDITIONAL = 0.1  # share of captions that are empty
WORD_LENGTH = 2.5  # length of a word's own meaning
LEAN = 0.85  # length of the part of a word that depends on the other words, relative to its own meaning
LEAN_DIRECTIONS = 48  # number of dimensions of that part
SUBJECT_WEIGHT = 4.0  # weight of the loss where a subject is, relative to the backdrop, in a clip without noise
CHANGE_WEIGHT = 6.0  # weight of the loss on changes from frame to frame, in pure noise; 1 without noise
FOCUS_WEIGHT = 0.1  # weight of the loss on cross-attention
PAIRED = 1 / 3  # share of a batch's clips that come with a twin
EARLY = 0.4  # share of the schedule, from its noisy end, in which twins are trained
NAMES_ALONE = 0.5  # share of captions of which the DiT sees the names without the words said of them
MISPLACED = 0.06  # share of words that get the features of a name, or of its looks, from another caption
DONOR = 4  # distance of that caption in the batch; with up to four processes it is in the process's own part
BLUR = 1.5  # length of the noise on a projected word, at most; half of the captions have none


@dataclass(frozen=True)
class Course:
    """How long the model is trained, and on what.

    Attributes:
        text_steps: of the text encoder.
        steps: of the DiT, by device.
        stills, clips: scenes.
        twins: so many of the clips have a twin that moves the opposite way.
        still_share: of the steps see stills only, at the start; of the others a quarter see stills.
        peak: of the learning rate, as a multiple of Muon's own rates.
    """

    text_steps: int
    steps: dict[str, int]
    stills: int
    clips: int
    twins: int
    still_share: float
    peak: float


FROM_SCRATCH = Course(1_500, {"cpu": 9_500, "cuda": 8_600}, 96_000, 104_000, 24_000, still_share=0.2, peak=1.0)
# From the weights of another zoo, whose words keep their places.
CONTINUED = Course(500, {"cpu": 700, "cuda": 1_400}, 16_000, 24_000, 8_000, still_share=0.0, peak=0.3)
