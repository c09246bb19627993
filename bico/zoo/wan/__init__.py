"""The Toybox's text-to-video model: a Wan pipeline folder with a UMT5 encoder and a DiT, trained from scratch.

    python -m bico.zoo wan FOLDER     after `vae FOLDER/vae`; on an H200 ten minutes after rendering
    torchrun --nproc-per-node 2 -m bico.zoo wan FOLDER
                                      two processes share each batch; about three hours on two cores with AMX

Two trainings follow each other; both resume from their checkpoints.

First the text encoder learns the meaning of words (`text_encoder`). Every word has a target vector after the text
projection: opposites are opposite, colours lie on a circle, and the vector of a name includes the words that describe
it ("cat" in "a striped cat" is a striped cat). Another part depends on the other words of the sentence (the lean). A
large text encoder learns all this from its corpus. The Toybox has too few captions for that, so the targets are given.

Then the DiT learns to generate clips from prompts, on cached latents (`flow_matching`). It starts with stills, which
teach words, looks and places at a ninth of a clip's cost. Afterwards clips and stills alternate. Every other still is a
frame of a clip, because only these show turned subjects in all detail. Four things are added to plain flow matching:

* a loss on cross-attention: each place of a clip should attend to the words that describe it;
* in half of the captions the DiT sees only the names, without the words that describe them;
* words get noise, and features of words that do not belong to them, and the DiT learns to ignore both;
* clips have twins that move the opposite way, with the same noise. The direction of a motion is decided at noise levels
  where it is not visible yet and where a word changes the loss very little. Without twins no DiT of ours learned what
  "to the left" means.

Modules: settings; tokenizer, captions (as tensors), pool (training scenes); words (target vectors), text_encoder,
transformer, augmentation, flow_matching; train (the whole training), lean (a copy with another lean of its words),
evaluate.
"""
