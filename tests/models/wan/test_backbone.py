import tiny
import torch

from bico.config.methods import method_names, settings_class
from bico.core.fingerprints import closure


def test_training_opens_the_transformer_only() -> None:
    opened = tiny.backbone()
    latents, context = torch.randn(1, 4, 2, 4, 4), torch.randn(1, tiny.TEXT_SLOTS, opened.width)
    opened.velocity(latents, torch.tensor([500.0]), context, training=True)
    assert {"vae", "text_encoder", "tokenizer"}.isdisjoint(vars(opened))


def test_training_depends_neither_on_the_sampling_loop_nor_clips_on_acceleration() -> None:
    """An edit of one leaves results of the other up to date: digests are made of these modules."""
    learned = closure(
        *(f"bico.methods.{name}.learn" for name in method_names() if settings_class(name).LEARNS_PER != "nothing")
    )
    made = closure(*(f"bico.methods.{name}.compose" for name in method_names()))
    parts = ("attention", "backbone", "components", "forward_pass", "latents", "schedule", "special_tokens", "text")
    both = {"bico.models.wan", *(f"bico.models.wan.{part}" for part in parts)}
    training = ("acceleration", "attention_maps", "token_limits")
    known = both | {f"bico.models.wan.{part}" for part in training}
    assert {each for each in learned if each.startswith("bico.models.wan")} == known
    assert {each for each in made if each.startswith("bico.models.wan")} == both | {"bico.models.wan.sampling"}
