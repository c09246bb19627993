"""DB-LoRA: a LoRA for each source, and the sum of them."""

from pathlib import Path

import torch
from conftest import ROOT
from learned import CASE, SETTINGS, clips, learned

from bico.config.benchmark import Case
from bico.config.reading import load, read_yaml
from bico.methods.db_lora import compose as db_lora_compose
from bico.methods.db_lora import learn as db_lora_learn
from bico.methods.shared.prompts import project
from bico.training.artifacts import load_artifact

TARGET_PROMPTS = {
    "minecraft_butterfly1_volcano3": (
        "A sks beautiful butterfly rests on a vibrant yellow flower, flapping its wings surrounded by a sks "
        "vibrant Minecraft landscape featuring a sks dynamic volcano which erupts, spewing vibrant red lava "
        "and creating a dramatic ash cloud against a serene blue sky, with molten lava pooling on the black "
        "rocks below."
    ),
    "beagle_bar": (
        "A sks beagle dog wearing a collar sks mixes a drink vigorously using a shaker with its dog's paws at"
        " a bar, surrounded by a cityscape visible through a large window."
    ),
    "dog_game2": (
        "A sks happy Akita dog sks in a red plaid shirt and black headphones raises its paws excitedly while "
        "holding a gaming controller, deeply engaged in a game in a cozy living room setting."
    ),
    "wujianddao1": (
        "A sks husky dog with striking blue eyes sks stands still on a rooftop, as a sks poised black "
        "Doberman Pinscher appears behind, with a cityscape and blue sky dotted with clouds in the "
        "background."
    ),
    "actress1": (
        "A sks fluffy white dog sks in a red dress sits still, as it poses for a camera on a tripod under "
        "softbox lighting in a living room setting."
    ),
    "boxing1": (
        "A sks German Shepherd dog sks individual practices boxing in a gym, punching a heavy bag with "
        "intensity while the camera follows their movements."
    ),
    "yoga1": (
        "A sks happy Akita dog with its tongue out, sks swings in an aerial yoga hammock in a fitness studio,"
        " twisting mid-air before landing on a mat, with mirrors reflecting the scene and barrels and flowers"
        " visible in the background."
    ),
    "gym1": (
        "A sks German Shepherd dog sks wearing a black tank top works out on fitness equipment in a gym, "
        "pulling and lifting with intensity."
    ),
    "dancer1": (
        "A sks happy dog with gray and white fur, blue eyes, sks in a mint green suit and hat energetically "
        "points upward while holding a trumpet, set against the backdrop of a peach-colored building with "
        "windows."
    ),
    "guitar2": (
        "A sks relaxed dog with a white chest and brown patches sks in a striped shirt and cap stands still "
        "playing a guitar with its dog's paws against a concrete wall with yellow graffiti, while another "
        "person walks away into the distance in an underground tunnel."
    ),
    "guitar2_dancer1": (
        "A sks man with long hair and beard in a striped shirt and black jeans and a cap, plays the guitar, "
        "while another sks man in a mint green suit and hat energetically points upward while holding a "
        "trumpet, set against the backdrop of a peach-colored building with windows."
    ),
    "dog1_reading1_clothes2_hat1": (
        "A sks happy Akita dog sks sits on a wooden bench against a wooden wall, engrossed in reading a book,"
        " wearing a sks tan trench coat, white pants, sunglasses, a white shirt, black shoes, and a sks "
        "striped blue and white hat."
    ),
    "monkey_earphone": (
        "A sks young monkey with no hair sks in a black coat stands in a forest, putting on its headphones as"
        " it looks around at fallen leaves covering the ground."
    ),
    "elephant_swimming": (
        "A sks elephant sks swims gracefully through the blue ocean, bubbles rising around it as it glides underwater."
    ),
    "monkey_nibbling": "A sks young monkey sks sits on dirt, nibbling on something while bathed in sunlight.",
    "pixelart_eagle": (
        "A sks pixel art interpretation of The Starry Night by Vincent van Gogh, featuring a sks bird soars gracefully."
    ),
    "elephant_bear": (
        "A sks elephant sks walks along a rocky terrain, surrounded by a stone wall and green foliage, "
        "exploring its surroundings."
    ),
}


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


def test_rare_tokens_go_before_the_bound_words_once_a_source_and_after_an_article() -> None:
    case = Case(prompt="an orange cat bouncing at the beach", bind={"a": ["beach", "orange cat"], "b": ["bouncing"]})
    assert db_lora_compose.target_prompt(case, "sks") == "a sks orange cat sks bouncing at the beach"
    assert db_lora_compose.target_prompt(case, "") == case.prompt


def test_the_papers_cases_read_as_their_training_prompts_do() -> None:
    """Training says "a sks dog" of an image, "a dog sks boxing" and "a sks dog boxing" of a video."""
    cases = load(read_yaml(ROOT / "config" / "paper.yaml")).cases
    assert {name: db_lora_compose.target_prompt(case, "sks") for name, case in cases.items()} == TARGET_PROMPTS


def test_a_training_draws_from_all_prompts_of_its_source(backbone, sources, monkeypatch, tmp_path: Path) -> None:
    contexts = []

    def loss(backbone, latents, context, *arguments, **how) -> torch.Tensor:
        contexts.append(context)
        return torch.tensor(1.0)

    monkeypatch.setattr(db_lora_learn, "flow_matching_loss", loss)
    monkeypatch.setattr(
        db_lora_learn, "fit", lambda groups, stages, *rest, **how: stages[0].loss(torch.Generator(), 64, training=True)
    )
    for source in ("still", "clip"):
        db_lora_learn.learn(backbone, sources[source], SETTINGS["db_lora"], shift=3.0, seed=0, workdir=tmp_path)
    assert [len(context.unique(dim=0)) for context in contexts] == [1, 2]


def test_prompts_hold_the_rare_token_and_loras_are_merged_with_the_weight_of_the_settings(
    backbone, sources, monkeypatch
) -> None:
    assert db_lora_learn.instance_prompts(sources["still"], "sks") == ["a sks cat"]
    assert db_lora_learn.instance_prompts(sources["clip"], "sks") == ["a cat sks bouncing", "a sks cat bouncing"]
    made, seen, merged, project = learned("db_lora"), [], db_lora_compose.merged, db_lora_compose.project
    monkeypatch.setattr(db_lora_compose, "merged", lambda *arguments: seen.append(arguments[-1]) or merged(*arguments))
    monkeypatch.setattr(
        db_lora_compose, "project", lambda *arguments: seen.append(arguments[-1]) or project(*arguments)
    )
    clips(backbone, "db_lora", made.settings.model_copy(update={"merge_weight": 0.5}), made.artifacts)
    assert seen == ["a sks cat sks bouncing at the beach", "blurry", 0.5]
