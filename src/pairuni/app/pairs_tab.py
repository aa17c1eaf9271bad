"""The tab Pairs: search a pair file and turn its pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gradio as gr

from pairuni.app.components import AT_ONCE, Changes, fault, html
from pairuni.app.pair_browser import ORDERS, PairBrowser
from pairuni.console.sentences import EXPECTED

ANY = "any"


def pairs_tab(page: gr.Blocks, browsers: Sequence[PairBrowser]) -> None:
    names = [str(one.path) for one in browsers]
    by_name = dict(zip(names, browsers, strict=True))
    file = gr.Dropdown(names, value=names[0], label="Pair file", visible=len(names) > 1)
    with gr.Row():
        words = gr.Textbox("", label="Search", placeholder="all words must match", min_width=200, scale=2)
        kind = gr.Radio(["all", "aligned", "retrieved"], value="all", label="Kind", min_width=260, scale=2)
        tag = gr.Dropdown([ANY], value=ANY, label="Tag of either side", min_width=150)
        order = gr.Dropdown(list(ORDERS), value=next(iter(ORDERS)), label="Order", min_width=150)
    summary, cards = html(), html()
    with gr.Row(equal_height=True):
        back = gr.Button("Previous", min_width=90, interactive=False)
        number = gr.Textbox("1", label="Page", min_width=90)
        forth = gr.Button("Next", min_width=90, interactive=False)

    def find(name: str, text: str, wanted: str, tagged: str, by: str, at: str, move: int = 0) -> Changes:
        try:
            found = by_name[name].find(
                words=text,
                kind=wanted,
                tag="" if tagged == ANY else tagged,
                order=by,
                page=(int(at) if at.strip().isdecimal() else 1) + move,
            )
        except EXPECTED as error:
            return {summary: fault(error), cards: ""}
        choices = [ANY, *found.tags]
        return {
            summary: found.summary,
            cards: found.cards,
            number: gr.Textbox(str(found.page), label=f"Page, of {found.pages:,}"),
            back: gr.Button(interactive=found.page > 1),
            forth: gr.Button(interactive=found.page < found.pages),
            tag: gr.Dropdown(choices, value=tagged if tagged in choices else ANY),
        }

    def first_page(name: str, text: str, wanted: str, tagged: str, by: str) -> Changes:
        return find(name, text, wanted, tagged, by, "1")

    def turned(move: int) -> Callable[..., Changes]:
        def turn(name: str, text: str, wanted: str, tagged: str, by: str, at: str) -> Changes:
            return find(name, text, wanted, tagged, by, at, move)

        return turn

    filters = [file, words, kind, tag, order]
    shown = [summary, cards, number, back, forth, tag]
    changed = [page.load, file.input, words.change, kind.input, tag.input, order.input]
    gr.on(changed, first_page, filters, shown, trigger_mode="always_last", **AT_ONCE)
    number.submit(turned(0), [*filters, number], shown, **AT_ONCE)
    back.click(turned(-1), [*filters, number], shown, **AT_ONCE)
    forth.click(turned(1), [*filters, number], shown, **AT_ONCE)
