"""Paths of all files that a benchmark writes. Both the rules of Snakemake and the code use them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Paths below the folder of results.

    Arguments are names of rows, sources, cases and seeds. A rule may pass a wildcard, such as "{method}".
    """

    results: Path

    # Config, logs and inputs

    @property
    def config(self) -> Path:
        """The whole config of the run, with every default."""
        return self.results / "config.yaml"

    def log(self, name: str) -> Path:
        """The log of a job."""
        return self.results / f"logs/{name}.log"

    def benchmark(self, name: str) -> Path:
        """Wall time and memory of a job, as Snakemake measures them."""
        return self.results / f"benchmarks/{name}.tsv"

    @property
    def doctor(self) -> Path:
        """The folder for the findings of `bico doctor`."""
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
        """Latents and prompt embeddings of a source, which training reads."""
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

    # Artifacts and clips

    def artifact(self, row: str, item: str, seed: int | str) -> Path:
        """What a row has learned from a source or for a case, with one learning seed."""
        return self.results / f"learned/{row}/{item}/{seed}.safetensors"

    def metrics(self, row: str, item: str, seed: int | str) -> Path:
        """The training curve of an artifact, one JSON line per step."""
        return self.artifact(row, item, seed).with_suffix(".metrics.jsonl")

    @property
    def event_files(self) -> Path:
        """The folder of training curves for TensorBoard."""
        return self.results / "tensorboard"

    def previews(self, row: str, item: str, seed: int | str) -> Path:
        """The folder of the previews of an artifact, if there are any: `<steps>.png`."""
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
        """Manifest of the clips of a row, failed ones included."""
        return self.clips / f"{row}.json"

    # Scores and tables

    def scores(self, row: str) -> Path:
        """Scores of a row, one line for each case and seed."""
        return self.results / f"scores/{row}.csv"

    def frame_scores(self, row: str) -> Path:
        """Scores of a row, frame by frame."""
        return self.results / f"scores/{row}.frames.json"

    @property
    def calibration(self) -> Path:
        """Calibration of the truth scores: the raw values that become 0 and 100."""
        return self.results / "scores/calibration.json"

    def table(self, name: str, suffix: str = "csv") -> Path:
        """A table of results, as CSV, Markdown or LaTeX."""
        return self.results / f"{name}.{suffix}"

    # Measurements on what was learned

    def binding(self, row: str) -> Path:
        """What a row has learned from each source: reconstruction, and the leak test."""
        return self.results / f"binding/{row}.csv"

    @property
    def unbound(self) -> Path:
        """The same measurements for the plain prompt, on the frozen backbone."""
        return self.results / "binding/unbound.json"

    def application(self, row: str, name: str, seed: int) -> Path:
        """The clip of a decomposition or an edit."""
        return self.results / f"applications/{row}/{name}/{seed}.mp4"

    def control(self, ingredient: str) -> Path:
        """Measurements that only the control of this ingredient needs."""
        return self.results / f"controls/{ingredient}.csv"

    @property
    def counterparts(self) -> "Layout":
        """The layout below which sources stand that only controls learn."""
        return Layout(self.results / "controls")

    @property
    def doses(self) -> Path:
        """Scores of exact renderings with a known fault, for each dose."""
        return self.results / "scorers/doses.csv"

    @property
    def agreement(self) -> Path:
        """Agreement of each score with the truth and with ratings, over the clips of methods."""
        return self.results / "scorers/agreement.csv"

    # Figures and pages

    def figure(self, name: str, suffix: str = "png") -> Path:
        """A figure, as PNG or as PDF."""
        return self.results / f"figures/{name}.{suffix}"

    @property
    def gallery(self) -> Path:
        """The gallery as a folder for a web server."""
        return self.results / "gallery"

    @property
    def gallery_page(self) -> Path:
        """The gallery as one file."""
        return self.results / "gallery.html"

    @property
    def entry(self) -> Path:
        """The main table for a board. Its folder has a few clips, too."""
        return self.results / "entry/entry.json"

    @property
    def rating_pages(self) -> Path:
        """The folder with a page for each rater."""
        return self.results / "rating/pages"

    @property
    def rating_keys(self) -> Path:
        """The folder of keys: which row made each clip of a rater's page."""
        return self.results / "rating/keys"

    @property
    def rating_answers(self) -> Path:
        """The folder for the answers that raters send back."""
        return self.results / "rating/answers"
