"""Where everything that a benchmark writes stands, for its rules and its code alike."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Every path below the folder of results.

    Rows, sources, cases and seeds are given by name; for a rule the name may be a wildcard, such as "{method}".
    """

    results: Path

    # What the commands read, and what they say

    @property
    def config(self) -> Path:
        """The whole config of the run, with every default."""
        return self.results / "config.yaml"

    def log(self, name: str) -> Path:
        """What a job printed."""
        return self.results / f"logs/{name}.log"

    def benchmark(self, name: str) -> Path:
        """Wall time and memory of a job, by Snakemake."""
        return self.results / f"benchmarks/{name}.tsv"

    @property
    def doctor(self) -> Path:
        """The folder of what `bico doctor` found."""
        return self.results / "doctor"

    # Sources

    def media(self, source: str, suffix: str) -> Path:
        """A rendered source; its scene stands beside it as JSON."""
        return self.results / f"media/{source}.{suffix}"

    def concepts(self, source: str) -> Path:
        """Key words and captions."""
        return self.results / f"concepts/{source}.json"

    @property
    def all_concepts(self) -> Path:
        """Manifest: the sources that have captions, each with a SHA-256."""
        return self.results / "concepts.json"

    def encoded(self, source: str) -> Path:
        """Latents and prompt embeddings: what training reads."""
        return self.results / f"encoded/{source}.safetensors"

    @property
    def all_encoded(self) -> Path:
        """Manifest of the encoded sources."""
        return self.results / "encoded.json"

    def appearance(self, source: str) -> Path:
        """CLIP embeddings of a source's frames."""
        return self.results / f"appearance/{source}.safetensors"

    @property
    def all_appearance(self) -> Path:
        """Manifest of the embedded sources."""
        return self.results / "appearance.json"

    def truth(self, case: str) -> Path:
        """The exact rendering of a case of the Toybox."""
        return self.results / f"truth/{case}.mp4"

    def truth_scene(self, case: str) -> Path:
        """The scene of that rendering."""
        return self.results / f"truth/{case}.json"

    # What is learned and generated

    def artifact(self, row: str, item: str, seed: int | str) -> Path:
        """What a row has learned of a source or of a case, with one learning seed."""
        return self.results / f"learned/{row}/{item}/{seed}.safetensors"

    def metrics(self, row: str, item: str, seed: int | str) -> Path:
        """The training curve of an artifact, a JSON line a step."""
        return self.artifact(row, item, seed).with_suffix(".metrics.jsonl")

    @property
    def event_files(self) -> Path:
        """The folder of training curves for TensorBoard."""
        return self.results / "tensorboard"

    def previews(self, row: str, item: str, seed: int | str) -> Path:
        """The folder of the previews of an artifact, `<steps>.png` each, if there are any."""
        return self.artifact(row, item, seed).with_suffix(".previews")

    def all_learned(self, row: str, part: int | str) -> Path:
        """Manifest of one of the `parts` into which the trainings of a row are divided."""
        return self.results / f"learned/{row}/part{part}.json"

    def clip(self, row: str, case: str, seed: int | str) -> Path:
        """A generated clip."""
        return self.clips / f"{row}/{case}/{seed}.mp4"

    @property
    def clips(self) -> Path:
        """The folder of all clips."""
        return self.results / "clips"

    def all_clips(self, row: str) -> Path:
        """The clips of a row, failed ones too."""
        return self.clips / f"{row}.json"

    # Scores and tables

    def scores(self, row: str) -> Path:
        """A line for each case and seed."""
        return self.results / f"scores/{row}.csv"

    def frame_scores(self, row: str) -> Path:
        """Scores frame by frame."""
        return self.results / f"scores/{row}.frames.json"

    @property
    def calibration(self) -> Path:
        """Both ends of the truth scores."""
        return self.results / "scores/calibration.json"

    def table(self, name: str, suffix: str = "csv") -> Path:
        """A table of results, as CSV, Markdown or LaTeX."""
        return self.results / f"{name}.{suffix}"

    # What was learned, looked at closely

    def binding(self, row: str) -> Path:
        """What a row has learned of each source: reconstruction, and the leak test."""
        return self.results / f"binding/{row}.csv"

    @property
    def unbound(self) -> Path:
        """What the plain prompt shows of every source's words."""
        return self.results / "binding/unbound.json"

    def application(self, row: str, name: str, seed: int) -> Path:
        """The clip of a decomposition or an edit."""
        return self.results / f"applications/{row}/{name}/{seed}.mp4"

    def control(self, ingredient: str) -> Path:
        """What is measured for the control of an ingredient alone."""
        return self.results / f"controls/{ingredient}.csv"

    @property
    def counterparts(self) -> "Layout":
        """Where the sources that only controls learn stand, as those of a benchmark do."""
        return Layout(self.results / "controls")

    @property
    def doses(self) -> Path:
        """Scores of exact renderings with a known fault, dose by dose."""
        return self.results / "scorers/doses.csv"

    @property
    def agreement(self) -> Path:
        """Of each score and each answer, over the clips of methods."""
        return self.results / "scorers/agreement.csv"

    # What people look at

    def figure(self, name: str, suffix: str = "png") -> Path:
        """A figure, as PNG or as PDF."""
        return self.results / f"figures/{name}.{suffix}"

    @property
    def gallery(self) -> Path:
        """A folder for a web server."""
        return self.results / "gallery"

    @property
    def gallery_page(self) -> Path:
        """The same in one file."""
        return self.results / "gallery.html"

    @property
    def entry(self) -> Path:
        """The folder that a board takes: the main table, and a few clips."""
        return self.results / "entry"

    @property
    def rating_pages(self) -> Path:
        """A page for each rater."""
        return self.results / "rating/pages"

    @property
    def rating_keys(self) -> Path:
        """Whose clip each item of a rater's page is."""
        return self.results / "rating/keys"

    @property
    def rating_answers(self) -> Path:
        """What raters send back."""
        return self.results / "rating/answers"
