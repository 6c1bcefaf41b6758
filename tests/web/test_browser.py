"""A real browser: from dropping a file to the downloaded answers. CONTRACT "Web", "Page".

Chromium is Debian's, driven by Playwright: `apt-get install chromium`. Without it these tests fail.
Run them with `pytest -m browser`.
"""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.command_line import terminal

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROOT = Path(__file__).parents[2]
DROP = """([name, text]) => {
  const data = new DataTransfer()
  data.items.add(new File([text], name))
  for (const kind of ['dragenter', 'dragover', 'drop'])
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }))
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`askmill web --offline` with nothing configured; its address holds the token."""
    user = terminal(tmp_path_factory.mktemp("web"))
    server = user.start("web", "--offline", "--port", "0")
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        assert line.startswith("askmill web: http://127.0.0.1:"), line
        yield line.removeprefix("askmill web: ").strip()
    finally:
        server.terminate()
        assert server.wait(60) == 0
        server.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    assert CHROMIUM is not None, "Chromium is not installed: apt-get install chromium"
    from playwright import sync_api  # noqa: PLC0415 -- 0.3 s that a run without these tests need not spend

    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A signed-in page. Nothing was asked of another host, and no script or policy error occurred."""
    base = address.partition("?")[0]
    context = browser.new_context(base_url=base, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    faults, hosts = list[str](), set[str]()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto(address)
    assert "token" not in page.url
    yield page
    context.close()
    assert hosts == {base.split("/")[2]}
    assert [fault for fault in faults if "422" not in fault] == []


def assert_accessible(page: Any) -> None:
    """axe-core finds nothing against WCAG 2.2 AA."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415

    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    # The page's own policy allows no injected script; a context of Playwright's is exempt.
    found = Axe().run(page, options=options)
    assert found.violations_count == 0, found.generate_report()


def drop(page: Any, name: str, text: str) -> None:
    page.goto("/new")
    page.evaluate(DROP, [name, text])
    page.wait_for_url("**/new/*")


def downloaded_csv(page: Any, folder: Path, name: str = "slow.answers.csv") -> list[dict[str, str]]:
    """The rows of the file that the first link of Download gives."""
    page.click("summary:has-text('Download')")
    with page.expect_download() as started:
        page.click(".popover a:has-text('CSV') >> nth=0")
    assert started.value.suggested_filename == name
    started.value.save_as(folder / name)
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_from_a_dropped_file_to_the_downloaded_answers(page: Any, tmp_path: Path) -> None:
    """Drop, see columns and price, submit, watch its end live, search, open a row with code, download."""
    page.goto("/new")
    assert_accessible(page)
    drop(page, "questions.csv", (ROOT / "examples" / "questions.csv").read_text("utf-8"))
    assert page.inner_text("#in-it + p").startswith("21 rows, 2 columns")
    assert "the offline emulator answers" in page.inner_text("main")
    assert_accessible(page)
    page.click("button[value=submit]")
    page.wait_for_url("**/batches/*")
    page.wait_for_selector("#live .s-done")  # without a reload
    page.wait_for_selector("tr[data-row='21'] .s-completed")
    assert page.inner_text("#live .big") == "21 of 21"

    page.keyboard.press("/")
    page.keyboard.type("greatest COMMON")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-searched]:has-text('1 found')")
    assert page.locator(".rows tbody tr").count() == 1
    page.click(".rows tbody [data-open]")
    page.wait_for_selector(".panel .answer:has-text('gcd')")
    assert "code interpreter" in page.inner_text(".panel")
    assert_accessible(page)
    page.keyboard.press("Escape")
    page.wait_for_selector(".panel", state="detached")
    page.goto(page.url.partition("?")[0])
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("#row-title:has-text('Row 2')")
    page.keyboard.press("j")
    page.wait_for_selector("#row-title:has-text('Row 3')")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")

    rows = downloaded_csv(page, tmp_path, "questions.answers.csv")
    assert (len(rows), rows[0]["status"], rows[0]["model"]) == (21, "completed", "askmill-emulator")
    assert "84" in rows[0]["answer"]
    page.goto("/")
    assert_accessible(page)


def test_a_file_of_faults_is_shown_line_by_line_and_can_be_submitted_without_them(page: Any) -> None:
    """Each fault beside the file, with its line; then the good rows alone, one of which fails, and its retry."""
    drop(page, "faults.csv", "question\nWhat is 1+1?\n \n[emulate: failed(server_error)] Why?\n \n")
    assert page.locator(".problem tbody td.n").all_inner_texts() == ["3", "5"]
    assert "the question is empty" in page.inner_text(".problem")
    assert page.is_disabled("button[value=submit]")
    page.click("button:has-text('Skip the bad rows')")
    page.wait_for_selector("button[value=submit]:not([disabled])")
    assert "2 bad rows are skipped" in page.inner_text("#in-it + p")
    page.click("button[value=submit]")
    page.wait_for_selector("#live .s-done")
    page.goto(page.url.partition("?")[0])
    page.select_option("#status", "failed")
    page.wait_for_url("**status=failed**")
    assert page.locator(".rows tbody tr").count() == 1
    assert "server_error" in page.inner_text(".rows tbody")
    assert_accessible(page)
    page.click("button:has-text('Retry')")
    assert "1 row of" in page.inner_text("[role=status].note")


def test_a_batch_is_paused_resumed_and_cancelled(page: Any, tmp_path: Path) -> None:
    """Each button answers with the command's sentence; what cannot be undone asks first.

    A paused batch is filtered, read and downloaded like any other.
    """
    drop(page, "slow.csv", "question\n" + "[emulate: completed after=600]\n" * 2 + "What is 5*5?\n")
    page.click("button[value=submit]")
    page.wait_for_selector("tr[data-row='3'] .s-completed")  # without a reload
    page.click("button:has-text('Pause')")
    page.wait_for_selector("#live .s-paused")
    assert "is paused; runs in flight finish" in page.inner_text("[role=status].note")
    page.select_option("#status", "completed")
    page.wait_for_url("**status=completed**")
    page.click(".rows tbody [data-open='3']")
    page.wait_for_selector(".panel .answer:has-text('25')")
    page.keyboard.press("Escape")
    page.select_option("#status", "")
    page.wait_for_selector("tr[data-row='1'] .s-running")
    rows = downloaded_csv(page, tmp_path)
    assert [row["status"] for row in rows] == ["running", "running", "completed"]
    assert_accessible(page)
    page.click("button:has-text('Resume')")
    page.wait_for_selector("#live .s-running")
    page.click("summary:has-text('Cancel')")
    page.click("button:has-text('Cancel the batch')")
    page.wait_for_selector("#live .s-cancelled")
    page.wait_for_selector("tr[data-row='2'] .s-cancelled")


def finished(page: Any, file: str, text: str, **options: str) -> str:
    """Submit a file with options of the form; returns the path of its batch, which has ended."""
    drop(page, file, text)
    for option, value in options.items():
        field = page.locator(f"[name={option}]")
        page.locator("details", has=field).first.evaluate("details => details.open = true")
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    page.click("button[value=submit]")
    page.wait_for_url("**/batches/*")
    page.wait_for_selector("#live .s-done")
    return "/" + page.url.partition("?")[0].split("/", 3)[3]


SUMS = "question,result\nWhat is 6*7?,42\nWhat is 2+2?,5\n"


def test_batches_are_compared_and_their_accuracy_is_shown(page: Any) -> None:
    """From two batches with expected answers to their rows side by side, by the keyboard and by clicks."""
    first = finished(page, "sums.csv", SUMS, expected="result", match="contains", name="first")
    assert "50.0 % (95 %" in page.inner_text("#live")
    page.goto(f"{first}?row=2")
    assert "Expected: 5 ✕ not as expected" in page.inner_text(".panel")
    second = finished(page, "sums.csv", SUMS, expected="result", instructions="Be brief.", name="second")
    page.click("a:has-text('Compare')")
    assert page.is_checked(f"[value='{second.rpartition('/')[2]}']")
    page.check(f"[value='{first.rpartition('/')[2]}']")
    page.click("button:has-text('Compare the chosen')")
    page.wait_for_url("**/compare?**")
    assert page.locator("#summary + .scroll tbody tr").count() == 2
    assert page.locator(".compare tbody tr").count() == 2
    page.click(".compare .answer-link >> nth=0")
    page.wait_for_selector("#row-title")
    page.keyboard.press("b")
    page.wait_for_selector("h1:has-text('Batches')")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("#live")
    page.keyboard.press("n")
    page.wait_for_selector("h1:has-text('New batch')")


@pytest.mark.parametrize(("theme", "width", "height"), [("light", 1280, 800), ("dark", 390, 760)])
def test_every_screen_is_accessible_in_each_theme_and_width(
    theme: str, width: int, height: int, page: Any, browser: Any, address: str
) -> None:
    """axe finds nothing, and nothing is wider than the screen: a phone's, too."""
    batch = finished(
        page, f"{theme}.csv", "question\nWhat is 12*7? Use code.\n[emulate: failed(server_error)] No?\n"
    )
    other = finished(
        page,
        f"{theme}.csv",
        "question\nWhat is 12*7? Use code.\n[emulate: failed(server_error)] No?\n",
        instructions="Be brief.",
    )
    ids = [path.rpartition("/")[2] for path in (batch, other)]
    drop(page, "faults.csv", "question\n \nWhat is 1+1?\n")
    faults = page.url
    drop(page, "good.csv", "question,note\nWhat is 1+1?,n\n")
    screens = [
        "/",
        "/new",
        page.url,
        faults,
        batch,
        f"{batch}?row=1",
        f"{batch}?row=2",
        f"{batch}?view=charts",
    ]
    screens += [
        f"{batch}?search=nowhere",
        f"{batch}?status=expired",
        f"/compare?batch={ids[0]}&batch={ids[1]}",
    ]
    screens += ["/api/docs", "/batches/b_nosuch"]
    context = browser.new_context(
        base_url=address.partition("?")[0],
        storage_state=page.context.storage_state(),
        color_scheme=theme,
        viewport={"width": width, "height": height},
    )
    looking = context.new_page()
    for screen in screens:
        looking.goto(screen)
        assert_accessible(looking)
        assert looking.evaluate("document.documentElement.scrollWidth <= innerWidth"), screen
    looking.keyboard.press("?")
    assert_accessible(looking)
    context.clear_cookies()
    looking.goto("/")
    assert looking.inner_text("h1") == "Sign in"
    assert_accessible(looking)
    context.close()


def test_the_page_works_without_scripts(browser: Any, address: str) -> None:
    """Choose, check, submit, filter, search and open a row by forms and links alone."""
    base = address.partition("?")[0]
    context = browser.new_context(base_url=base, java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    page.goto("/new")
    page.set_input_files(
        "#file", {"name": "q.csv", "mimeType": "text/csv", "buffer": b"question\nWhat is 6*7?\n"}
    )
    page.click("button:has-text('Check the file')")
    page.click("button[value=submit]")
    page.wait_for_url("**/batches/*")
    page.fill("#search", "6*7")
    page.click("button:has-text('Show')")
    page.click(".rows tbody [data-open='1']")
    assert page.inner_text("#row-title") == "Row 1"
    context.close()
