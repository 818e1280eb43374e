"""The page of examples/wasm, opened and clicked in headless Chromium: its network learns, and its curve is drawn."""

import functools
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import pytest

from scirs2_adapters.export import export

EXAMPLES = Path(__file__).parents[2] / "examples" / "wasm"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: Clicks the button as soon as the page has made it ready, waits for the end, and sends what the page then shows.
CLICK = """
<script type="module">
const button = document.getElementById("train"), wait = () => new Promise((go) => setTimeout(go, 20));
const inked = () => document.getElementById("curve").getContext("2d").getImageData(0, 0, 400, 400).data
    .filter((value, i) => i % 4 === 3 && value > 128).length;
while (!button.onclick) await wait();
const said = [document.getElementById("said").textContent], ink = [inked()];
button.click();
while (button.disabled) await wait();
said.push(document.getElementById("said").textContent);
ink.push(inked());
await fetch("shown", {method: "POST", body: JSON.stringify({said, ink})});
</script>
"""


class Pages(SimpleHTTPRequestHandler):
    """Serves a folder, and keeps what is posted."""

    posted: Queue[bytes]

    def do_POST(self) -> None:
        self.posted.put(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *values: object) -> None:
        """Nothing is logged."""


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Queue[bytes]]]:
    """The address of a folder on the loopback, and what is posted there."""
    posted: Queue[bytes] = Queue()
    handler = functools.partial(type("Handler", (Pages,), {"posted": posted}), directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", posted
        server.shutdown()


def test_the_page_trains_a_network_when_its_button_is_clicked(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("Chromium, which opens the page, is not installed")
    folder = tmp_path / "page"
    export("lion", folder, target="wasm32")
    for file in EXAMPLES.iterdir():
        shutil.copy(file, folder)
    with (folder / "index.html").open("a") as page:
        page.write(CLICK)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    with serving(folder) as (address, posted):
        opened = subprocess.Popen(
            [browser, *options, "--remote-debugging-port=0", f"{address}/index.html"], stderr=subprocess.DEVNULL
        )
        try:
            shown = json.loads(posted.get(timeout=120))
        finally:
            opened.terminate()
            opened.wait()
    assert shown["said"][0] == "2,000 steps"
    words = shown["said"][1].split()  # step 2000, loss 0.0035, 400 of 400 right
    assert words[:2] == ["step", "2000,"]
    assert float(words[3].rstrip(",")) < 0.1
    assert int(words[4]) >= 390
    assert shown["ink"][1] > 2 * shown["ink"][0] > 0
