"""Pages from disk in a real browser without a network."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, Route, sync_playwright

INSIDE = ("file:", "data:", "blob:", "about:")  # addresses that stay on this machine


@pytest.fixture(scope="module")  # asyncio.run() fails while it is open
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """`open_page(path, width=1280, dark=False)` shows a file; below 600 pixels the browser is a phone's.

    Fails at the end where a page wrote to the console as an error, raised, or asked for anything beyond this machine.
    """
    wrong: list[str] = []

    def show(path: Path, width: int = 1280, dark: bool = False) -> Page:
        phone = width < 600
        context = browser.new_context(
            viewport={"width": width, "height": 844 if phone else 900},
            color_scheme="dark" if dark else "light",
            is_mobile=phone,
            has_touch=phone,
            offline=True,
        )
        context.on("request", note_request)
        context.route("**/*", stay_inside)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(path.resolve().as_uri())
        return page

    def note_request(request: Request) -> None:
        if not request.url.startswith(INSIDE):
            wrong.append(f"asked for {request.url}")

    def stay_inside(route: Route) -> None:
        if route.request.url.startswith(INSIDE):
            route.continue_()
        else:
            route.abort()

    yield show
    for context in browser.contexts:
        context.close()
    assert not wrong, "; ".join(wrong)
