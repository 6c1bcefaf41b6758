"""Pictures of each screen of `askmill web`, in two themes and three widths: `docs/screenshots.py [OUT]`.

Needs Chromium (`apt-get install chromium`) and `pip install -e '.[dev]'`. Without OUT, the pictures of the
documentation are replaced, in docs/images. The answers come from the offline emulator.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
WIDTHS = {"phone": (390, 760), "desk": (1280, 800), "wide": (1680, 900)}
FILES = ("questions.csv", "lessons.csv", "made.csv")
COMPARED = ("Answer with a number.", "Think step by step.")
SUMS = "question,result\nWhat is 12*(3+4)?,84\nWhat is 15% of 80?,12\nWhat is 2^10 - 24?,1001\n"
FAULTS = "question\nWhat is 2+2?\n \n[emulate: failed(server_error)] Why?\n[emulate: expired] When?\n"


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Yield the address, with its token, of `askmill web --offline` on a new data folder."""
    settings = {"ASKMILL_DATA_DIR": str(folder / "data"), "PATH": os.environ["PATH"]}
    command = [str(Path(sys.executable).with_name("askmill")), "web", "--offline", "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, env=settings, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split(": ", 1)[1].strip()
        finally:
            process.terminate()


def submit(page: Page, file: Path, **options: str) -> None:
    """Submit a file as a person does, and wait for its end."""
    page.goto("/new")
    page.set_input_files("#file", file)
    page.wait_for_url("**/new/*")
    for name, value in options.items():
        if value == "true":
            page.locator("details", has=page.locator(f"[name={name}]")).first.evaluate("d => d.open = true")
            page.check(f"input[name={name}]")
            page.click("text=Check again")
        else:
            page.locator("details", has=page.locator(f"[name={name}]")).first.evaluate("d => d.open = true")
            field = page.locator(f"[name={name}]")
            if field.evaluate("field => field.tagName") == "SELECT":
                field.select_option(value)
            else:
                field.fill(value)
    page.click("button[value=submit]")
    page.wait_for_url("**/batches/*")
    page.wait_for_selector("#live .s-done", timeout=60_000)


def screens(page: Page, folder: Path) -> Iterator[str]:
    """Lead the page from screen to screen, and yield the name of each."""
    page.goto("/")
    yield "batches"
    page.goto("/new")
    page.set_input_files("#file", ROOT / "examples" / "questions.csv")
    page.wait_for_url("**/new/*")
    yield "new"
    page.goto("/new")
    page.set_input_files("#file", folder / "faults.csv")
    page.wait_for_selector(".problem")
    yield "faults"
    page.goto("/")
    page.click("text=questions.csv")
    yield "batch"
    page.click("[data-open='3']")
    page.wait_for_selector("#row-title")
    yield "row"
    page.goto(page.url.split("?")[0] + "?view=charts")
    yield "charts"
    page.goto("/")
    for name in COMPARED:
        page.get_by_role("row").filter(has_text=name).get_by_role("checkbox").check()
    page.click("text=Compare the chosen")
    page.wait_for_selector("table.compare")
    yield "compare"


def take(out: Path) -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        (folder / "faults.csv").write_text(FAULTS)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with server(folder) as address:
            base, _, token = address.partition("?")
            page = browser.new_page(base_url=base)
            page.goto(f"{base}?{token}")
            submit(page, folder / "faults.csv", skip_bad_rows="true")
            (folder / "sums.csv").write_text(SUMS)
            for instructions in COMPARED:
                judged = {"expected": "result", "match": "contains", "instructions": instructions}
                submit(page, folder / "sums.csv", **judged, name=instructions)
            for file in reversed(FILES):
                submit(page, ROOT / "examples" / file)
            state = page.context.storage_state()
            for theme in ("light", "dark"):
                for width, (pixels, height) in WIDTHS.items():
                    context = browser.new_context(
                        base_url=base,
                        storage_state=state,
                        color_scheme=theme,  # type: ignore[arg-type]
                        viewport={"width": pixels, "height": height},
                    )
                    page = context.new_page()
                    for screen in screens(page, folder):
                        # A row's code is at the bottom of its panel. The mouse marks no row.
                        shown = 1090 if screen == "row" and width != "phone" else height
                        page.set_viewport_size({"width": pixels, "height": shown})
                        page.mouse.move(0, 0)
                        page.screenshot(path=out / f"web-{screen}-{width}-{theme}.png")
                    context.close()
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        target = Path(sys.argv[1])
        target.mkdir(parents=True, exist_ok=True)
        take(target)
    else:
        with tempfile.TemporaryDirectory() as every:
            take(Path(every))
            for picture in (ROOT / "docs" / "images").glob("web-*.png"):
                shutil.copyfile(Path(every) / picture.name, picture)
