"""Textual Inversion (Gal et al., 2022): new vectors at the text encoder's input embedding; everything else is frozen.

Kept: initialisation from class words, short neutral prompts around the placeholders, AdamW. Changed for this backbone:
the loss is flow matching on a video transformer. Changed for compositions of many sources: every key word of a source
gets vectors of its own, all learned together, so that a case can take a clip's motion and leave its subject. In the
target prompt each key word of a source that stands in what is bound to it is replaced by its vectors; a bound phrase
that holds no key word keeps its words, and the vectors of the class word stand before it.
"""
