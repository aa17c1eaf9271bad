"""Serves the page: on this machine only, or behind a token."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pairuni.app.drawings import ROUTE, DrawingFiles
from pairuni.app.guard import Application, Guard
from pairuni.app.models import Models
from pairuni.app.pair_browser import PairBrowser
from pairuni.app.run_watch import RunWatch

# before gradio is imported, which reads them once
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"

try:
    import fastapi
    import gradio as gr
    from fastapi.responses import FileResponse, PlainTextResponse

    from pairuni.app import page
    from pairuni.io.uvicorn_server import bound_socket, quiet_server, url_of
except ImportError as error:
    raise ImportError(f"the app needs gradio: pip install 'pairuni[app]' ({error})") from None

UPLOADS = "GRADIO_TEMP_DIR"
"""The environment variable with gradio's folder of uploads."""
LARGEST_UPLOAD = 64 << 20
"""Limit in bytes for an uploaded file."""
STOP_SECONDS = 3
"""Time for requests in flight after a signal."""


class AppServer:
    """The app on a socket.

    address: host and port, 0 for a free port. token: empty for none, which ``check_reach`` allows at an address of this
    machine only.
    """

    def __init__(
        self,
        models: Models,
        pairs: Sequence[PairBrowser],
        runs: Sequence[RunWatch],
        *,
        address: tuple[str, int],
        token: str = "",
    ) -> None:
        """Binds the address. Raises OSError if that is not possible."""
        self._socket = bound_socket(*address)
        self._files = tempfile.TemporaryDirectory(prefix="pairuni-app-")
        # gradio reads it at each upload; another app of this process gets its own back when this one ends
        self._outer_files = os.environ.get(UPLOADS)
        os.environ[UPLOADS] = self._files.name
        drawings = DrawingFiles(Path(self._files.name))
        blocks = page.build(models, pairs, runs, drawings)
        app = Guard(application(blocks, drawings), token)
        self._uvicorn = quiet_server(app, stop_seconds=STOP_SECONDS, lifespan="on")
        self.url = url_of(self._socket)

    def serve_forever(self) -> None:
        """Serve until ``stop`` or, in the main thread, SIGINT, SIGTERM or SIGHUP.

        Uploads and images are then removed.
        """
        try:
            asyncio.run(self._uvicorn.serve(sockets=[self._socket]))
        finally:
            self._socket.close()
            self._files.cleanup()
            if self._outer_files is None:
                os.environ.pop(UPLOADS, None)
            else:
                os.environ[UPLOADS] = self._outer_files

    def stop(self) -> None:
        """Stop serving, called from another thread."""
        self._uvicorn.should_exit = True


def application(blocks: gr.Blocks, drawings: DrawingFiles) -> Application:
    """The page and its images as an ASGI application."""
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def drawing(name: str) -> fastapi.Response:
        path = drawings.path(name)
        if path is None:
            return PlainTextResponse("There is no such image.", status_code=404)
        return FileResponse(path, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})

    app.get(f"/{ROUTE}/{{name}}", response_model=None)(drawing)
    mounted: Application = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=LARGEST_UPLOAD,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        theme=page.theme(),
        head=page.head(),
    )
    # as after gradio's own launch: until then, it lets a request name any file of this machine as an upload
    blocks.has_launched = blocks.is_running = True
    return mounted
