"""`pairuni app`: models, pair files and runs in a web page.

What the page shows is made without gradio, by ``models``, ``pair_browser`` and ``run_watch``; ``page`` and ``server``
import gradio.
"""
