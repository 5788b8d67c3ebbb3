"""Find pages of the built documentation that are wider than a phone or a laptop.

    python doc/check_widths.py [doc/_build/html] [--browser chromium]

Every page is laid out by a headless Chromium at 390 and 1280 pixels; the exit status is
1 if one is wider than the window. Tables, code and formulas that scroll by themselves
are fine.
"""

import argparse
import functools
import html
import http.server
import json
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

WIDTHS = (390, 1280)
#: Pages that one start of the browser lays out, one after the other.
AT_A_TIME = 12
PROGRAM = """<!doctype html><pre id="found"></pre><script>
(async () => {
  const found = [];
  for (const page of PAGES) {
    const frame = document.createElement("iframe");
    frame.style.cssText = "border:0;height:800px;width:WIDTHpx";
    frame.src = "/" + page;
    document.body.appendChild(frame);
    await new Promise(resolve => (frame.onload = resolve));
    const maths = frame.contentWindow.MathJax;
    if (maths && maths.startup) await maths.startup.promise;
    found.push([page, frame.contentDocument.documentElement.scrollWidth]);
    frame.remove();
  }
  document.getElementById("found").textContent = JSON.stringify(found);
})();
</script>"""
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
    "--virtual-time-budget=60000",
    "--dump-dom",
)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serve files, and the program that measures them, without a log."""

    program = ""

    def do_GET(self):
        """Answer with the program where it is asked for."""
        if self.path != "/check-widths":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(Handler.program.encode())

    def log_message(self, *args):
        """Say nothing."""


def widths(browser, port, pages, width):
    """Return [page, its width] of pages in a window of a width."""
    program = PROGRAM.replace("PAGES", json.dumps(pages))
    Handler.program = program.replace("WIDTH", str(width))
    with tempfile.TemporaryDirectory() as profile:
        address = f"http://127.0.0.1:{port}/check-widths"
        command = [browser, *OPTIONS, f"--user-data-dir={profile}", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r'<pre id="found">(\[.*?\])</pre>', done.stdout, re.S)
    if found is None:
        raise SystemExit(f"{browser} measured nothing: {done.stderr[-500:]}")
    return json.loads(html.unescape(found.group(1)))


def main():
    """Measure every page and say which are too wide."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default="doc/_build/html")
    parser.add_argument("--browser", default="chromium")
    args = parser.parse_args()
    pages = [p.relative_to(args.folder).as_posix() for p in args.folder.rglob("*.html")]
    pages = sorted(page for page in pages if not page.startswith("_"))
    handler = functools.partial(Handler, directory=str(args.folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    wide = [
        f"{page}: {found} pixels in {width}"
        for width in WIDTHS
        for start in range(0, len(pages), AT_A_TIME)
        for page, found in widths(
            args.browser, server.server_port, pages[start : start + AT_A_TIME], width
        )
        if found > width
    ]
    print("\n".join([*wide, f"{len(pages)} pages, {len(wide)} too wide"]))
    sys.exit(bool(wide))


if __name__ == "__main__":
    main()
