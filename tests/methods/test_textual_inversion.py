"""Textual Inversion: vectors in place of words."""

import torch
from learned import learned, metrics

from bico.config.benchmark import Case
from bico.methods.textual_inversion import compose as textual_inversion_compose
from bico.methods.textual_inversion import inversion
from bico.training.artifacts import load_artifact


def test_vectors_start_from_their_word(backbone) -> None:
    embeddings = backbone.input_embeddings("a video of bouncing")
    vectors = inversion.initial(embeddings, {"bouncing": [3, 4]}, "bouncing", count=3)
    assert torch.equal(vectors, embeddings[[3, 4, 3]])


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
