"""The Toybox's text-to-video model: a Wan pipeline folder with a UMT5 encoder and a DiT, trained from scratch.

    python -m bico.zoo wan FOLDER     after `vae FOLDER/vae`; on an H200 ten minutes after rendering
    torchrun --nproc-per-node 2 -m bico.zoo wan FOLDER
                                      two processes share each batch; about three hours on two cores with AMX

Two trainings follow each other; both resume from their checkpoints.

First the text encoder learns what words mean (`text_encoder`). Every word has a target vector where the DiT will see
it: opposites are opposite, colours lie on a circle, and a name means itself plus all that is said of it ("cat" in "a
striped cat" is a striped cat). To that comes a part that depends on the other words of the sentence. A large text
encoder has learned this from its corpus. The captions of the Toybox are too few for that, so the targets are given.

Then the DiT learns to generate clips from prompts, on cached latents (`flow_matching`). It starts with stills, which
teach words, looks and places at a ninth of a clip's cost. Clips and stills follow in turn. Every other still is a frame
of a clip, because only those show what turns in all its detail. Four things are added to plain flow matching:

* a loss on cross-attention: each place of a clip is to attend to the words that describe it;
* half of the captions show the DiT the names alone, without the words that are said of them;
* words get noise, and features of words that do not belong to them, and the DiT learns to ignore both;
* clips come with twins that move the opposite way, under the same noise. The direction of a motion is decided at noise
  levels where it is not visible yet and where a word changes the loss very little. Without twins no DiT of ours learned
  what "to the left" means.

Modules: settings; tokenizer, captions (as tensors), pool (scenes to learn from); words (where they shall be),
text_encoder, transformer, augmentation, flow_matching; train (all of it), lean (a copy whose words lean otherwise),
evaluate.
"""
