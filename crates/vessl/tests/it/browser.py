"""Drives a browser: `browser.py notebook|gradio|streamlit LINK`. It prints what was seen as JSON, and fails where something is not there."""
import json
import shutil
import sys

from playwright.sync_api import sync_playwright

PLOT = """import matplotlib.pyplot as plt
print(6 * 7)
plt.plot([1, 3, 2]); plt.show()"""


def notebook(page):
    page.wait_for_selector(".jp-Launcher-body")
    files = page.locator(".jp-DirListing-itemText").all_inner_texts()
    page.click(".jp-LauncherCard[data-category=Notebook]")
    page.wait_for_selector(".jp-Notebook .jp-Cell .cm-content")
    page.click(".jp-Notebook .jp-Cell .cm-content")
    # The editor adds brackets and indents by itself, so that typed text would be another.
    page.keyboard.insert_text(PLOT)
    page.locator(".jp-mod-highlighted, .jp-StatusBar-TextItem", has_text="Python 3 | Idle").first.wait_for()
    page.keyboard.press("Shift+Enter")
    image = page.wait_for_selector(".jp-OutputArea-output img")
    text = page.locator(".jp-OutputArea-output pre").first.inner_text()
    size = image.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    page.locator("[data-command=\"launcher:create\"]").first.click()
    page.locator(".jp-LauncherCard[data-category=Other]", has_text="Terminal").last.click()
    page.wait_for_selector(".jp-Terminal .xterm-helper-textarea", state="attached")
    page.locator(".jp-Terminal .xterm-screen").click()
    page.wait_for_selector(".jp-Terminal .xterm-cursor, .jp-Terminal canvas", state="attached")
    page.keyboard.type("echo typed > /tmp/from-terminal\n")
    return {"files": files, "text": text.strip(), "plot": size}


def gradio(page):
    page.get_by_label("name").fill("vessl")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_function("[...document.querySelectorAll('textarea')].some(area => area.value === 'hello vessl')")
    return {"text": "hello vessl"}


def streamlit(page):
    page.get_by_role("button", name="Press").click()
    page.get_by_text("pressed 1 times").wait_for()
    return {"text": "pressed 1 times"}


what, link = sys.argv[1:3]
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    page = browser.new_page()
    page.set_default_timeout(100_000)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        page.goto(link)
        seen = {"notebook": notebook, "gradio": gradio, "streamlit": streamlit}[what](page)
    except Exception:
        page.screenshot(path=sys.argv[3]) if len(sys.argv) > 3 else None
        print(page.content()[:3000], file=sys.stderr)
        raise
    print(json.dumps({**seen, "errors": errors, "at": page.url}))
    browser.close()
