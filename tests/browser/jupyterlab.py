"""JupyterLab as a reader meets it: a server with throw-away folders, and a notebook opened in Chromium."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required"
).split()
SERVER_SECONDS, OPEN_SECONDS, ANSWER_SECONDS = 120, 120, 60
# What a widget that cannot be shown says in its place.
BROKEN_WIDGET = re.compile(r"Error displaying widget|Loading widget|model not found|Javascript Error", re.IGNORECASE)
SETTLED_SECONDS = 1.0  # an output counts as changed once it has kept still for so long
THE_NOTEBOOK = "window.jupyterapp.shell.currentWidget"
# The kernel answers requests one after the other: an answer to this one means that it is up and has done all before.
KERNEL_ANSWERS = f"""async () => {{
    const context = {THE_NOTEBOOK}.sessionContext;
    await context.ready;
    await context.session.kernel.info;
    while (context.session.kernel.connectionStatus !== 'connected') await new Promise(done => setTimeout(done, 100));
    await context.session.kernel.requestKernelInfo(); }}"""


class LabServer:
    """A JupyterLab on this machine alone that shows the folder `root`; its settings and its state live in `scratch`."""

    def __init__(self, root: Path, scratch: Path):
        self.root, self.log_path = root, scratch / "lab.log"
        self.token = secrets.token_hex(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._log = self.log_path.open("w", encoding="utf8")
        self._process = subprocess.Popen(
            self._command(),
            env=self._environment(scratch),
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _command(self):
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--ip=127.0.0.1",
            f"--port={self.port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.root}",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.extension_manager=readonly",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        return command + ["--allow-root"] * (hasattr(os, "geteuid") and os.geteuid() == 0)

    @staticmethod
    def _environment(scratch):
        environment = {
            name: value for name, value in os.environ.items() if name not in ("MPLBACKEND", "COURSE_EXECUTING")
        }
        for name in (
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_DATA_DIR",
            "JUPYTER_RUNTIME_DIR",
            "JUPYTERLAB_SETTINGS_DIR",
            "JUPYTERLAB_WORKSPACES_DIR",
            "IPYTHONDIR",
        ):
            folder = scratch / name.lower()
            folder.mkdir(exist_ok=True)
            environment[name] = str(folder)
        settings = {
            # no pop-up over the notebook; every cell in the page, as what is scrolled away must be found too
            "apputils-extension/notification": {
                "checkForUpdates": False,
                "fetchNews": "false",
                "doNotDisturbMode": True,
            },
            "notebook-extension/tracker": {"windowingMode": "none"},
        }
        for plugin, values in settings.items():
            path = scratch / "jupyterlab_settings_dir" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values), encoding="utf8")
        return environment

    def _wait(self):
        address = f"http://127.0.0.1:{self.port}/api/status?token={self.token}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        end = time.monotonic() + SERVER_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            try:
                opener.open(address, timeout=2).read()
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"JupyterLab did not start:\n{self.log_path.read_text(encoding='utf8')[-3000:]}")

    def address(self, name: str) -> str:
        """Where the notebook `name` of the served folder opens, in a fresh workspace."""
        return f"http://127.0.0.1:{self.port}/lab/tree/{name}?token={self.token}&reset"

    def stop(self):
        """End the server and the kernels it started, and nothing else."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._log.close()


class OpenNotebook:
    """A notebook open in JupyterLab in a page of Chromium."""

    def __init__(self, page, server: LabServer, name: str):
        self.page, self.foreign_requests = page, set()
        page.on("request", self._note_request)
        page.goto(server.address(name), wait_until="domcontentloaded")
        page.wait_for_function(
            f"() => window.jupyterapp && {THE_NOTEBOOK}?.content?.model", timeout=OPEN_SECONDS * 1000
        )
        self._answer(f"async () => {{ await {THE_NOTEBOOK}.context.ready; await {THE_NOTEBOOK}.revealed; }}")
        page.wait_for_timeout(1000)

    def _note_request(self, request):
        if not re.match(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:", request.url):
            self.foreign_requests.add(request.url)

    def run_all(self, seconds: float) -> None:
        """Run every cell; TimeoutError where that takes longer than `seconds`."""
        self._answer(KERNEL_ANSWERS)  # a kernel that is not ready yet would drop the first cell
        try:
            self._answer("() => window.jupyterapp.commands.execute('notebook:run-all-cells')", seconds=seconds)
        except TimeoutError as error:
            counts = [cell["count"] for cell in self.code_cells()]
            raise TimeoutError(f"Run All took more than {seconds} s; counts so far {counts}") from error
        self._answer(KERNEL_ANSWERS)
        self.page.wait_for_timeout(1000)

    def end_kernels(self) -> None:
        """End the kernels of all notebooks; the next one that is opened gets a new one."""
        self._answer("async () => { await window.jupyterapp?.serviceManager?.sessions?.shutdownAll(); }")

    def _answer(self, function: str, argument: object = None, seconds: float = ANSWER_SECONDS):
        """What an asynchronous JavaScript `function` gives; TimeoutError where it takes longer than `seconds`.

        `evaluate` itself waits for ever, and a message that is lost between page and kernel would hold up all tests.
        """
        answer = self.page.evaluate(
            f"""([argument, milliseconds]) => Promise.race([
                 Promise.resolve(({function})(argument)).then(value => ({{value: value ?? null}})),
                 new Promise(resolve => setTimeout(() => resolve(null), milliseconds))])""",
            [argument, seconds * 1000],
        )
        if answer is None:
            raise TimeoutError(f"no answer within {seconds} s to {function.strip()[:80]}")
        return answer["value"]

    def code_cells(self) -> list[dict]:
        """Of every code cell with code: its execution `count`, whether it is `trusted`,
        its error outputs as `errors`.
        """
        return self.page.evaluate(f"""() => {{
            const cells = {THE_NOTEBOOK}.content.model.cells, found = [];
            for (let i = 0; i < cells.length; i++) {{
              const cell = cells.get(i);
              if (cell.type !== 'code' || !cell.sharedModel.getSource().trim()) continue;
              const errors = [], tags = cell.sharedModel.getMetadata('tags') ?? [];
              for (let k = 0; k < cell.outputs.length; k++) {{
                const output = cell.outputs.get(k).toJSON();
                if (output.output_type === 'error' && !tags.includes('raises-exception'))
                  errors.push(`${{output.ename}}: ${{output.evalue}}`);
              }}
              found.push({{count: cell.executionCount, trusted: cell.trusted, errors}});
            }}
            return found; }}""")

    def image_widths(self) -> list[int]:
        """The natural widths of all pictures in outputs; 0 for one that does not show."""
        return self._answer("""async () => Promise.all(
            [...document.querySelectorAll('.jp-OutputArea-output img')].map(async image => {
              await image.decode().catch(() => null);
              return image.naturalWidth; }))""")

    def players(self) -> list[dict]:
        """Of every audio element in outputs: `duration` in seconds (0 where it does not decode) and `error`."""
        return self._answer(seconds=300, function="""async () => {
            const found = [];
            for (const audio of document.querySelectorAll('.jp-OutputArea-output audio')) {
              if (audio.readyState < 1) {
                audio.preload = 'metadata'; audio.load();
                await new Promise(done => { audio.onloadedmetadata = audio.onerror = done; setTimeout(done, 8000); });
              }
              found.push({duration: audio.duration || 0, error: audio.error?.message ?? null});
            }
            return found; }""")

    def play(self, number: int, seconds: float = 0.3) -> float:
        """Play the `number`-th player (from 0) until it is `seconds` further; how far it came within ten seconds."""
        return self._answer(
            """async ([number, seconds]) => {
            const audio = document.querySelectorAll('.jp-OutputArea-output audio')[number];
            const start = audio.currentTime, end = performance.now() + 10000;
            await audio.play();
            while (audio.currentTime < start + seconds && performance.now() < end)
              await new Promise(done => setTimeout(done, 50));
            audio.pause();
            return audio.currentTime - start; }""",
            [number, seconds],
        )

    def broken_widgets(self) -> list[str]:
        """What outputs say in place of a widget that cannot be shown; only what is visible counts."""
        texts = self.page.locator(".jp-OutputArea-output").all_inner_texts()
        return [text.strip()[:200] for text in texts if BROKEN_WIDGET.search(text)]

    def output_signature(self, cell) -> str:
        """Everything the outputs of `cell` (a locator) show, texts, pictures, sounds, but its sliders' read-outs."""
        return cell.evaluate("""cell => {
            const area = cell.querySelector('.jp-Cell-outputArea').cloneNode(true);
            area.querySelectorAll('.widget-readout').forEach(readout => readout.remove());
            const media = [...area.querySelectorAll('img, audio')].map(element => element.src);
            return area.textContent + media.join(' '); }""")

    def changed_output(self, cell, before: str, seconds: float = 60) -> str:
        """The outputs of `cell` once they differ from `before` and keep still; `before` where they never differ."""
        end = time.monotonic() + seconds
        last, since = before, time.monotonic()
        while time.monotonic() < end:
            now = self.output_signature(cell)
            if now != last:
                last, since = now, time.monotonic()
            elif now != before and time.monotonic() - since >= SETTLED_SECONDS:
                return now
            self.page.wait_for_timeout(100)
        return last
