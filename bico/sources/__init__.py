"""From a source to what training reads: media, concepts and captions, latents and prompt embeddings.

And where sources and models come from: the authors' page, and weights from their hub.
"""
