"""POPE and MME: from the released files to answers files and results."""

from __future__ import annotations

from dataclasses import replace

from pairuni.config import YesNoSettings
from pairuni.evaluation import prompts
from pairuni.evaluation.benchmark import Benchmark, Records, balanced_subset, reply_to
from pairuni.evaluation.inference import QuestionItem
from pairuni.evaluation.protocols import mme, pope
from pairuni.evaluation.question_images import check_images
from pairuni.evaluation.result import Result

POPE_FILES = "POPE's questions are output/coco of github.com/RUCAIBox/POPE"
POPE_IMAGES = "give COCO val2014 (cocodataset.org) as --images"
MME_FILES = "MME's release is on the page of arXiv:2306.13394, MME_Benchmark_release_version"
MME_IMAGES = "MME's images come with its release, a folder for each category; give it as --images"


def pope_benchmark(settings: YesNoSettings) -> Benchmark:
    """POPE's three splits; a question that occurs in several splits is run once.

    data: the folder of coco_pope_<split>.json; images: the folder of COCO_val2014_*.jpg. Answers files go to
    ``out``/answers. Raises FileNotFoundError for missing files.
    """
    files = {name: settings.data / f"coco_pope_{name}.json" for name in pope.SPLITS}
    for path in files.values():
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; {POPE_FILES}")
    questions = {name: pope.read_questions(path) for name, path in files.items()}
    splits, subset = balanced_subset(questions, settings.limit, "questions")
    folder = settings.images or settings.data
    unique = {_key(q.image, q.text): q for chosen in splits.values() for q in chosen}
    ordered = sorted(unique.items(), key=lambda item: item[1].image)  # an image's questions share a batch
    check_images([folder / q.image for _, q in ordered], POPE_IMAGES)

    def finish(records: Records) -> list[Result]:
        replies = {
            name: [reply_to(records, _key(q.image, q.text)) for q in chosen]
            for name, chosen in splits.items()
        }
        for name, chosen in splits.items():
            pope.write_replies(settings.out / "answers" / files[name].name, chosen, replies[name])
        return [pope.score({name: (splits[name], replies[name]) for name in splits})]

    return Benchmark(
        name="POPE",
        settings={"prompts": prompts.NAME},
        questions=[QuestionItem(key, (folder / q.image,), prompts.yes_no(q.text)) for key, q in ordered],
        max_new_tokens=settings.max_new_tokens,
        subset=subset,
        finish=finish,
    )


def mme_benchmark(settings: YesNoSettings) -> Benchmark:
    """MME-Perception, and MME-Cognition when its four categories exist too.

    data: the release, with a folder for each category, or the folder of <category>.txt of the evaluation tool;
    images: the folder of the categories' folders. Answers files go to ``out``/answers. The limit counts images,
    which have two questions each. Raises FileNotFoundError for missing files.
    """
    released = mme.read_questions(settings.data)
    missing = [name for name in mme.PERCEPTION if name not in released]
    if missing:
        raise FileNotFoundError(f"{settings.data} lacks MME's {', '.join(missing)}; {MME_FILES}")
    cognition = set(mme.COGNITION) <= set(released)
    names = mme.PERCEPTION + (mme.COGNITION if cognition else ())
    by_image = {name: list(zip(released[name][::2], released[name][1::2], strict=True)) for name in names}
    chosen, subset = balanced_subset(by_image, settings.limit, "pictures")
    rows = {name: [row for two in pairs for row in two] for name, pairs in chosen.items()}
    folder = settings.images or settings.data
    images = {
        (name, row): mme.image_folder(folder / name) / row.image
        for name, found in rows.items()
        for row in found
    }
    check_images(list(images.values()), MME_IMAGES)
    items = {
        (name, row): QuestionItem(
            _key(f"{name}/{row.image}", row.question), (image,), prompts.yes_no(row.question)
        )
        for (name, row), image in images.items()
    }

    def finish(records: Records) -> list[Result]:
        answers = {
            name: [replace(row, reply=reply_to(records, items[name, row].key)) for row in found]
            for name, found in rows.items()
        }
        mme.write_answers(settings.out / "answers", answers)
        results = [mme.score(answers)]
        return [*results, mme.score(answers, cognition=True)] if cognition else results

    return Benchmark(
        name="MME",
        settings={"prompts": prompts.NAME},
        questions=list({item.key: item for item in items.values()}.values()),
        max_new_tokens=settings.max_new_tokens,
        subset=subset,
        finish=finish,
    )


def _key(image: str, question: str) -> str:
    return f"{image}: {question}"
