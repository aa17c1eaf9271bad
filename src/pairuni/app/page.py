"""The page and its style."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import gradio as gr

from pairuni.app.components import html
from pairuni.app.drawings import DrawingFiles
from pairuni.app.model_tabs import ask_tab, draw_tab, edit_tab
from pairuni.app.models import Models
from pairuni.app.pair_browser import PairBrowser
from pairuni.app.pairs_tab import pairs_tab
from pairuni.app.run_watch import RunWatch
from pairuni.app.watch_tab import watch_tab
from pairuni.report.images import CRISP

TITLE = "PairUni"


def build(
    models: Models, pairs: Sequence[PairBrowser], runs: Sequence[RunWatch], drawings: DrawingFiles
) -> gr.Blocks:
    """The page: tabs for what was given. Models load when they are first used."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        html().value = f"<header><h1>{TITLE}</h1></header>"
        with gr.Tabs():
            with gr.Tab("Draw"):
                draw_tab(models, drawings)
            with gr.Tab("Ask"):
                ask_tab(models, drawings)
            if editors := models.editors():
                with gr.Tab("Edit"):
                    edit_tab(models, editors, drawings)
            if pairs:
                with gr.Tab("Pairs"):
                    pairs_tab(page, pairs)
            if runs:
                with gr.Tab("Watch"):
                    watch_tab(page, runs)
    return page


def head() -> str:
    """Style and scripts of the page; nothing is loaded from elsewhere."""
    report, app = files("pairuni.report"), files("pairuni.app")
    style = (report / "style.css").read_text(encoding="utf-8")
    own = (app / "page.css").read_text(encoding="utf-8")
    script = (report / "interaction.js").read_text(encoding="utf-8") + (app / "live.js").read_text(
        encoding="utf-8"
    )
    return (
        f"<style>.pairuni {{\n{style}\n}}\n{own}</style>"
        f"<script>{{\nconst CRISP = {CRISP};\n{script}\n}}</script>"
    )


def theme() -> gr.themes.Base:
    """Gradio's plain theme with more contrast, and with fonts that the reader's machine has: none are loaded."""
    sans = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    mono = ("ui-monospace", "Consolas", "monospace")
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="stone",
        radius_size="md",
        font=[gr.themes.Font(name) for name in sans],
        font_mono=[gr.themes.Font(name) for name in mono],
    ).set(
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )
