"""Prepares sources for training: concepts and captions, latents and prompt embeddings.

It also downloads sources from the authors' page, and model weights from their hub.
"""
