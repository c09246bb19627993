"""DB-LoRA: a LoRA for each source, and the sum of them."""

from pathlib import Path

import torch
from learned import CASE, SETTINGS, clips, learned

from bico.config.benchmark import Case
from bico.methods.db_lora import compose as db_lora_compose
from bico.methods.db_lora import learn as db_lora_learn
from bico.methods.shared.prompts import project
from bico.training.artifacts import load_artifact


def weights(backbone) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.transformer.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_learning_a_lora_leaves_the_backbone_as_it_was(backbone, sources, tmp_path: Path) -> None:
    before = weights(backbone)
    db_lora_learn.learn(backbone, sources["still"], SETTINGS["db_lora"], shift=3.0, seed=0, workdir=tmp_path)
    assert same(weights(backbone), before)


def test_images_and_videos_have_their_own_rank() -> None:
    for source, rank in (("still", 4), ("clip", 6)):
        tensors, _ = load_artifact(learned("db_lora").artifacts[source])
        assert {tensor.shape[0] for name, tensor in tensors.items() if name.endswith("lora_A")} == {rank}


def test_merged_weights_act_as_the_adapter_that_was_trained(backbone, sources) -> None:
    latents, timesteps = torch.randn(1, 4, 2, 4, 4), torch.tensor([500.0])
    context = project(backbone, CASE.prompt)
    with db_lora_learn.adapter(backbone.transformer, rank=3, seed=0) as parameters, torch.no_grad():
        for parameter in parameters.values():
            parameter.copy_(torch.randn_like(parameter))
        tensors = {name: parameter.clone() for name, parameter in parameters.items()}
        trained = backbone.velocity(latents, timesteps, context)
    with db_lora_compose.merged(backbone.transformer, [tensors], weight=1.0), torch.no_grad():
        torch.testing.assert_close(backbone.velocity(latents, timesteps, context), trained, rtol=1e-4, atol=1e-4)


def test_merged_loras_change_the_weights_and_are_removed_afterwards(backbone) -> None:
    loras = [load_artifact(path)[0] for path in learned("db_lora").artifacts.values()]
    before = weights(backbone)
    layer = "blocks.1.attn2.to_k"
    with db_lora_compose.merged(backbone.transformer, loras, weight=0.5):
        delta = sum(lora[f"{layer}.lora_B"] @ lora[f"{layer}.lora_A"] for lora in loras)
        torch.testing.assert_close(
            backbone.transformer.state_dict()[f"{layer}.weight"], before[f"{layer}.weight"] + 0.5 * delta
        )
        changed = [name for name, tensor in weights(backbone).items() if not torch.equal(tensor, before[name])]
        assert len(changed) == 3 * 10  # blocks, and layers in each
    assert same(weights(backbone), before)


def test_rare_tokens_go_before_the_bound_words() -> None:
    case = Case(prompt="an orange cat bouncing", bind={"a": ["orange cat"], "b": ["bouncing"]})
    assert db_lora_compose.target_prompt(case, "sks") == "a sks orange cat sks bouncing"
    assert db_lora_compose.target_prompt(case, "") == "an orange cat bouncing"


def test_prompts_hold_the_rare_token_and_loras_are_merged_with_the_weight_of_the_settings(
    backbone, sources, monkeypatch
) -> None:
    assert db_lora_learn.instance_prompt(sources["still"], "sks") == "a sks cat"
    assert db_lora_learn.instance_prompt(sources["clip"], "sks") == "a cat sks bouncing"
    made, seen, merged, project = learned("db_lora"), [], db_lora_compose.merged, db_lora_compose.project
    monkeypatch.setattr(db_lora_compose, "merged", lambda *arguments: seen.append(arguments[-1]) or merged(*arguments))
    monkeypatch.setattr(
        db_lora_compose, "project", lambda *arguments: seen.append(arguments[-1]) or project(*arguments)
    )
    clips(backbone, "db_lora", made.settings.model_copy(update={"merge_weight": 0.5}), made.artifacts)
    assert seen == ["a sks cat sks bouncing at the beach", "blurry", 0.5]
