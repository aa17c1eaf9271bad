"""POPE and MME as a model is asked: their released files in, their answers files out."""

from __future__ import annotations

from pathlib import Path

from pairuni.evaluation import prompts
from pairuni.evaluation.benchmark import Benchmark, Records, said, spread
from pairuni.evaluation.protocols import mme, pope
from pairuni.evaluation.question_images import check_images
from pairuni.evaluation.result import Result
from pairuni.evaluation.running import Ask
from pairuni.io.text import text_lines

MAX_NEW_TOKENS = 32
"""More than a reply needs whose first words alone are looked at."""

POPE_FILES = "POPE's questions are output/coco of github.com/RUCAIBox/POPE"
POPE_IMAGES = "give COCO val2014 (cocodataset.org) as --images"
MME_FILES = "MME's release is on the page of arXiv:2306.13394, MME_Benchmark_release_version"
MME_IMAGES = "MME's images come with its release, a folder for each category; give it as --images"


def pope_benchmark(
    data: Path,
    out: Path,
    *,
    images: Path | None = None,
    limit: int | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Benchmark:
    """POPE's three splits; a question that several have is asked once.

    data: the folder of coco_pope_<split>.json; images: that of COCO_val2014_*.jpg, data itself by default. Answers
    files go to ``out``/answers. Raises FileNotFoundError for what is missing.
    """
    files = {name: data / f"coco_pope_{name}.json" for name in pope.SPLITS}
    for path in files.values():
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; {POPE_FILES}")
    every = {name: pope.read_questions(path) for name, path in files.items()}
    splits, subset = spread(every, limit, "questions")
    folder = images or data
    unique = {_key(q.image, q.text): q for questions in splits.values() for q in questions}
    together = sorted(unique.items(), key=lambda item: item[1].image)  # an image's questions share a batch
    check_images([folder / q.image for _, q in together], POPE_IMAGES)

    def finish(records: Records) -> list[Result]:
        replies = {
            name: [said(records, _key(q.image, q.text)) for q in questions]
            for name, questions in splits.items()
        }
        for name, questions in splits.items():
            pope.write_replies(out / "answers" / files[name].name, questions, replies[name])
        return [pope.score({name: (splits[name], replies[name]) for name in splits})]

    return Benchmark(
        name="POPE",
        settings={"prompts": prompts.NAME},
        asks=[Ask(key, (folder / q.image,), prompts.yes_no(q.text)) for key, q in together],
        max_new_tokens=max_new_tokens,
        subset=subset,
        finish=finish,
    )


def mme_benchmark(
    data: Path,
    out: Path,
    *,
    images: Path | None = None,
    limit: int | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Benchmark:
    """MME-Perception, and MME-Cognition where its four categories are there too.

    data: the release, a folder for each category, or the folder of <category>.txt of the evaluation tool; images:
    the folder of the categories' folders, data itself by default. Answers files go to ``out``/answers. A limit
    counts images, which have two questions each. Raises FileNotFoundError for what is missing.
    """
    questions = read_questions(data)
    missing = [name for name in mme.PERCEPTION if name not in questions]
    if missing:
        raise FileNotFoundError(f"{data} lacks MME's {', '.join(missing)}; {MME_FILES}")
    cognition = set(mme.COGNITION) <= set(questions)
    names = mme.PERCEPTION + (mme.COGNITION if cognition else ())
    by_image = {name: list(zip(questions[name][::2], questions[name][1::2], strict=True)) for name in names}
    chosen, subset = spread(by_image, limit, "pictures")
    rows = {name: [row for pair in pairs for row in pair] for name, pairs in chosen.items()}
    folder = images or data
    pictures = {
        name: {row.image: _mme_image(folder / name, row.image) for row in found}
        for name, found in rows.items()
    }
    check_images([path for found in pictures.values() for path in found.values()], MME_IMAGES)
    keyed = {
        (name, row): _key(f"{name}/{row.image}", row.question)
        for name, found in rows.items()
        for row in found
    }

    def finish(records: Records) -> list[Result]:
        answers = {
            name: [
                mme.Answered(row.image, row.question, row.truth, said(records, keyed[name, row]))
                for row in found
            ]
            for name, found in rows.items()
        }
        mme.write_answers(out / "answers", answers)
        results = [mme.score(answers)]
        return [*results, mme.score(answers, cognition=True)] if cognition else results

    asks = {
        key: Ask(key, (pictures[name][row.image],), prompts.yes_no(row.question))
        for (name, row), key in keyed.items()
    }
    return Benchmark(
        name="MME",
        settings={"prompts": prompts.NAME},
        asks=list(asks.values()),
        max_new_tokens=max_new_tokens,
        subset=subset,
        finish=finish,
    )


def read_questions(data: Path) -> dict[str, list[mme.Answered]]:
    """MME's questions by category, without replies: of the release's folders, or of the evaluation tool's files.

    Raises ValueError naming a file whose lines are not MME's.
    """
    found = {}
    for name in mme.PERCEPTION + mme.COGNITION:
        if (data / f"{name}.txt").is_file():
            found[name] = _from_tool(data / f"{name}.txt")
        elif (data / name).is_dir():
            found[name] = _from_release(data / name)
    return {name: rows for name, rows in found.items() if rows}


def _from_tool(path: Path) -> list[mme.Answered]:
    """Lines of image, question and truth, and a reply that is passed over."""
    what = "image, question and truth between tabs"
    rows = [mme.Answered(image, asked, truth, "") for image, asked, truth, *_ in _fields(path, 3, what)]
    pairs = zip(rows[::2], rows[1::2], strict=False)
    if len(rows) % 2 or any(one.image != other.image for one, other in pairs):
        raise ValueError(f"{path}: expected two lines in turn for each image")
    return rows


def _from_release(folder: Path) -> list[mme.Answered]:
    """A text file for each image, with two lines of question and truth."""
    texts = folder / "questions_answers_YN"
    pictures = {path.stem: path.name for path in _image_folder(folder).glob("*") if path.suffix != ".txt"}
    rows = []
    for path in sorted((texts if texts.is_dir() else folder).glob("*.txt")):
        asked = _fields(path, 2, "question and truth between a tab")
        if len(asked) != 2:
            raise ValueError(f"{path}: expected two questions, found {len(asked)}")
        image = pictures.get(path.stem, f"{path.stem}.jpg")
        rows += [mme.Answered(image, question, truth, "") for question, truth, *_ in asked]
    return rows


def _fields(path: Path, count: int, what: str) -> list[list[str]]:
    found = []
    for number, line in text_lines(path):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) < count:
            raise ValueError(f"{path}, line {number}: expected {what}")
        found.append(fields)
    return found


def _mme_image(folder: Path, name: str) -> Path:
    return _image_folder(folder) / name


def _image_folder(folder: Path) -> Path:
    return folder / "images" if (folder / "images").is_dir() else folder


def _key(image: str, question: str) -> str:
    return f"{image}: {question}"
