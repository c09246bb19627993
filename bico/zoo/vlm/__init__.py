"""The Toybox's VLM: a Qwen2.5-VL of 2.6 M parameters, trained from scratch to answer the prompts of
`bico.sources.instructions`.

    python -m bico.zoo vlm FOLDER     six minutes on an H200 that trains the DiT as well; hours on one core

First its vision tower learns to see (`sight`): what covers each patch, its pose in this frame and in the next one, and
the words of the whole frame. Without this stage the model takes many times as long to recognise subjects. Then the
whole model learns two things (`answers`): to name concepts as JSON, from a frame or a clip, and to write a caption that
holds the words of a given JSON. Some of these words are invented, so that it learns to copy any word.

A copy of it, the judge of the VQA score, is fine-tuned to answer yes or no (`questions`).

The instructions of `bico.sources.instructions` are single tokens of its vocabulary, which keeps prompts short. An
edited instruction needs a new training; a test fails until then.
"""
