"""Textual Inversion: vectors in place of words."""

import pytest
import tiny
import torch
from learned import learned, metrics

from bico.config.benchmark import Case
from bico.methods.textual_inversion import compose as textual_inversion_compose
from bico.methods.textual_inversion import inversion
from bico.methods.textual_inversion import learn as textual_inversion_learn
from bico.models.wan import text
from bico.training.artifacts import load_artifact
from bico.training.noise import NoiseLevels


def test_vectors_start_from_their_word(backbone) -> None:
    embeddings = backbone.input_embeddings("a video of bouncing")
    vectors = inversion.initial(embeddings, {"bouncing": [3, 4]}, "bouncing", count=3)
    assert torch.equal(vectors, embeddings[[3, 4, 3]])
    (whole,) = inversion.initial(embeddings, {"bouncing": [3, 4]}, "bouncing", count=1)
    assert torch.allclose(whole, embeddings[[3, 4]].mean(dim=0))  # and not its first syllable alone


def test_vectors_replace_each_bound_word_once() -> None:
    embeddings, vectors = torch.arange(6.0)[:, None], {"a": torch.tensor([[70.0], [80.0]]), "b": torch.tensor([[90.0]])}
    placed = inversion.replaced(embeddings, {"a": [1, 2, 5], "b": [3]}, vectors)
    assert placed.flatten().tolist() == [0, 70, 80, 90, 4, 70, 80]


def test_every_key_word_has_vectors_of_its_own(sources) -> None:
    tensors, _ = load_artifact(learned("textual_inversion").artifacts["clip"])
    spatial, temporal = sources["clip"].spatial[0], sources["clip"].temporal[0]
    vectors = textual_inversion_compose.by_word(tensors)
    assert not torch.equal(vectors[spatial], vectors[temporal])
    assert next(iter(vectors)) == temporal  # the class word's first


def test_a_phrase_without_key_words_keeps_its_words_behind_the_vectors(backbone, monkeypatch) -> None:
    placed = []
    monkeypatch.setattr(backbone, "encode_embeddings", lambda embeddings: placed.extend(embeddings) or tiny_context)
    tiny_context = torch.zeros(1, backbone.text_slots, 32)
    plain, vectors = backbone.input_embeddings("a cat at the beach"), torch.full((2, 32), 7.0)
    for words, expected in (
        (["cat"], [*plain[:1], *vectors, *plain[2:]]),
        (["cat at the beach"], [*plain[:1], *vectors, *plain[2:]]),  # the key word inside the phrase
        (["the beach"], [*plain[:3], *vectors, *plain[3:]]),
    ):
        case = Case(prompt="a cat at the beach", bind={"still": words})
        textual_inversion_compose.inverted(backbone, case, {"still": {"0 cat": vectors}})
        assert torch.equal(placed.pop(), torch.stack(expected))


@pytest.mark.parametrize("words", [["striped cat", "cat"], ["cat", "striped cat"]])
def test_a_key_word_inside_a_longer_one_gives_way_to_it(backbone, monkeypatch, words) -> None:
    placed, of_word = [], {"striped cat": torch.full((1, 32), 5.0), "cat": torch.full((1, 32), 7.0)}
    monkeypatch.setattr(
        backbone, "encode_embeddings", lambda embeddings: placed.extend(embeddings) or torch.zeros(1, 32, 32)
    )
    prompt = "a striped cat at a cat"
    case = Case(prompt=prompt, bind={"still": ["striped cat at a cat"]})
    learned = {f"{number} {word}": of_word[word] for number, word in enumerate(words)}
    textual_inversion_compose.inverted(backbone, case, {"still": learned})
    plain = backbone.input_embeddings(prompt)  # a, the tokens of "striped cat", at, a, cat, </s>
    expected = [plain[:1], of_word["striped cat"], plain[-4:-2], of_word["cat"], plain[-1:]]
    assert torch.equal(placed[0], torch.cat(expected))


def test_vectors_that_do_not_fit_the_text_slots_are_cut(backbone, monkeypatch) -> None:
    placed = []
    monkeypatch.setattr(
        backbone, "encode_embeddings", lambda embeddings: placed.extend(embeddings) or torch.zeros(1, 32, 32)
    )
    case = Case(prompt="cat" + " a" * 30, bind={"still": ["cat"]})
    textual_inversion_compose.inverted(backbone, case, {"still": {"0 cat": torch.full((3, 32), 7.0)}})
    assert [len(each) for each in placed] == [backbone.text_slots] and (placed[0][:3] == 7).all()


def test_training_changes_the_vectors() -> None:
    tensors, _ = load_artifact(learned("textual_inversion").artifacts["still"])
    assert {tuple(vectors.shape) for vectors in tensors.values()} == {(2, 32)}
    norms = [line["norm"] for line in metrics(learned("textual_inversion").folder / "still.ckpt")]
    assert norms[0] != norms[-1]


def test_steps_grow_with_the_embedding_table(sources, tmp_path) -> None:
    settings = learned("textual_inversion").settings.model_copy(update={"steps": 2})
    for factor in (1.0, 0.01):
        opened, workdir = tiny.backbone(), tmp_path / str(factor)
        table = opened.text_encoder.get_input_embeddings().weight
        table.mul_(factor)
        before = inversion.Inversion(opened, sources["still"], settings.vectors).learned()
        after = textual_inversion_learn.learn(opened, sources["still"], settings, shift=3.0, seed=0, workdir=workdir)
        moved = torch.cat([after[name] - before[name] for name in before]).square().mean().sqrt() / table.std()
        lines = metrics(workdir)
        # Adam's first step is the learning rate in each coordinate, whatever the gradient.
        assert lines[0]["moved"] == pytest.approx(settings.learning_rate, rel=0.02)
        assert lines[1]["moved"] == pytest.approx(moved.item(), rel=1e-4)


def test_a_text_encoder_that_leaves_for_the_clips_pass_gets_the_gradients_of_one_that_stays(
    sources, monkeypatch
) -> None:
    """On a small GPU; here its main memory stands for both."""
    opened, seen = tiny.backbone(), []

    def noting(name: str) -> None:
        method = getattr(opened, name)
        monkeypatch.setattr(opened, name, lambda *args, **options: seen.append(name) or method(*args, **options))

    for name in ("velocity", "encode_embeddings", "offload_text_encoder"):
        noting(name)

    def gradients(short: bool) -> list[torch.Tensor]:
        learning = inversion.Inversion(opened, sources["clip"], vectors=2)
        seen.clear()
        loss, _ = learning.loss(
            NoiseLevels(3.0), torch.Generator().manual_seed(0), 2, training=True, encoder_leaves=short
        )
        loss.backward()
        return [vectors.grad for vectors in learning.vectors.values()]

    joint = gradients(short=False)
    assert seen == ["encode_embeddings", "velocity"] and all(gradient.any() for gradient in joint)
    alone = gradients(short=True)
    # The last pass of all is that of the text encoder alone, which stays for its gradient.
    assert seen == ["encode_embeddings", "offload_text_encoder", "velocity", "encode_embeddings"]
    assert all(map(torch.equal, alone, joint))


def test_nothing_of_a_text_encoder_that_has_left_is_used(sources, monkeypatch) -> None:
    """As on a GPU: what it leaves behind is overwritten, and it comes back as another copy."""
    opened, away = tiny.backbone(), []
    encoder, bring = opened.text_encoder, text.moved
    kept = [parameter.data.clone() for parameter in encoder.parameters()]

    def leave() -> None:
        for parameter, copy in zip(encoder.parameters(), kept, strict=True):
            left, parameter.data = parameter.data, copy.clone()
            left.fill_(torch.nan)
        away.append(True)

    def moved(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
        if model is encoder and away:
            away.clear()
            for parameter, copy in zip(encoder.parameters(), kept, strict=True):
                parameter.data = copy.clone()
        return bring(model, device)

    def gradients(*, leaves: bool) -> list[torch.Tensor]:
        learning, found = inversion.Inversion(opened, sources["clip"], vectors=2), []
        for step in range(2):
            generator = torch.Generator().manual_seed(step)
            loss, _ = learning.loss(NoiseLevels(3.0), generator, 2, training=True, encoder_leaves=leaves)
            loss.backward()
            found += [vectors.grad.clone() for vectors in learning.vectors.values()]
        return found

    stays = gradients(leaves=False)
    monkeypatch.setattr(text, "moved", moved)
    monkeypatch.setattr(opened, "offload_text_encoder", leave)
    assert all(map(torch.equal, gradients(leaves=True), stays))


@pytest.mark.parametrize(("short", "checkpointing"), [(True, "always"), (True, "never"), (False, "always")])
def test_the_text_encoder_leaves_for_long_clips_on_small_gpus_alone(
    sources, tmp_path, monkeypatch, short: bool, checkpointing: str
) -> None:
    opened, left = tiny.backbone(), []
    monkeypatch.setattr(opened, "gradient_checkpointing", checkpointing)
    monkeypatch.setattr(opened, "offload_text_encoder", lambda: left.append(True))
    monkeypatch.setattr(textual_inversion_learn, "short_of_memory", lambda device: short)
    made = learned("textual_inversion")
    again = textual_inversion_learn.learn(
        opened, sources["clip"], made.settings, shift=3.0, seed=0, workdir=tmp_path / "work"
    )
    assert bool(left) == (short and checkpointing == "always")
    torch.testing.assert_close(again, load_artifact(made.artifacts["clip"])[0])
