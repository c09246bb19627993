"""Sizes and training settings of the text-to-video model."""

from __future__ import annotations

# --- sizes ----------------------------------------------------------------------------------------------------------

TEXT_WIDTH, WIDTH, HEADS, BLOCKS, FFN = 128, 192, 4, 6, 768
# The relative positions that the heads of each text encoder layer start with, and the bias for them.
NEIGHBOURS, NEIGHBOUR_BIAS = ((1, -1, 2, -2), (1, -1, 3, 0), (3, -3, 6, 2)), 4.0
PATCHES = (1, 1, 1)  # a patch token for each latent cell, so that words act just where their subject is
TOKENS = 52  # of a caption; the longest that the templates make has 51, so there is always a slot of padding
# The DiT attends to padding slots. We run folders with 64 slots, diffusers with 512 by default; training sees both, as
# one weighted slot.
TEXT_SLOTS = (64, 512)
ACTORS = 2  # at most, in a clip
REGIONS = ACTORS + 2  # and the ground, and the sky

# --- data -----------------------------------------------------------------------------------------------------------

STILLS, CLIPS, CORPUS = 96_000, 104_000, 8_000  # scenes to train on; scenes whose captions make the tokenizer
TWINS = 24_000  # so many of the clips have a twin that moves the opposite way
HARD = ("spinning", "spinning", "bouncing", "circling")  # motions of every fourth clip: these take longest to learn
TELLINGS = 4  # captions of a scene
DROP = 0.15  # probability that a caption leaves out a role

# --- training -------------------------------------------------------------------------------------------------------

TEXT_STEPS, TEXT_BATCH = 1_500, 256  # of the text encoder
STEPS = {"cpu": 9_500, "cuda": 8_600}  # of the DiT
STILL_BATCH, CLIP_BATCH = {"cpu": 256, "cuda": 2_048}, {"cpu": 48, "cuda": 512}
STILL_SHARE = 0.2  # of the steps see stills only, at the start; of the others a quarter see stills
EMA = 0.998  # decay of the moving average of the weights
SHIFT = 3.0  # of noise levels, in training and in sampling
UNCONDITIONAL = 0.1  # share of captions that are empty
WORD_LENGTH = 2.5  # of a word's own meaning
SUBJECT_WEIGHT = 4.0  # of the loss where a subject is, relative to the backdrop, in a clip without noise
CHANGE_WEIGHT = 6.0  # of the loss on changes from frame to frame, in a clip that is all noise; 1 without noise
FOCUS_WEIGHT = 0.1  # of the loss on cross-attention
PAIRED = 1 / 3  # share of a batch's clips that come with a twin
EARLY = 0.4  # share of the schedule, from its noisy end, in which twins are trained
NAMES_ALONE = 0.5  # share of captions of which the DiT sees the names without the words said of them
MISPLACED = 0.06  # share of words that get the features of a name, or of its looks, from another caption
DONOR = 4  # distance of that caption in the batch; with up to four processes it is in the process's own part
BLUR = 1.5  # length of the noise on a projected word, at most; half of the captions have none
