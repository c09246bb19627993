"""Textual Inversion (Gal et al., 2022): new vectors at the text encoder's input embedding; everything else is frozen.

As in the original: initialisation from class words, short neutral prompts around the placeholders, AdamW. Changed for
this backbone: the loss is flow matching on a video transformer. Changed for compositions of many sources: every key
word of a source gets its own vectors, and all are learned together, so that a case can use a clip's motion without its
subject. In the target prompt, vectors replace each key word of a source within the phrases that are bound to it. A
bound phrase without a key word keeps its words, and the vectors of the class word are put before it.
"""
