"""A page in a real browser, with all that it said and asked for, for tests of pages."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


class Opened:
    """A page with all that it said and asked for."""

    def __init__(self, browser: "Browser", url: str, width: int, scheme: Any = "light") -> None:
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def sticks_out(self) -> list[str]:
        """What is wider than the window, beside what scrolls or is clipped in its own box."""
        found: list[str] = self.page.evaluate(
            """() => [...document.querySelectorAll('body *')].filter(e => {
                if (e.closest('svg, .skip') || getComputedStyle(e).display === 'none') return false;
                const edge = document.documentElement.clientWidth + 1;
                if (e.getBoundingClientRect().right <= edge) return false;
                for (let box = e.parentElement; box !== document.body; box = box.parentElement) {
                    if (getComputedStyle(box).overflowX !== 'visible'
                        && box.getBoundingClientRect().right <= edge) return false;
                }
                return true;
            }).map(e => e.outerHTML.slice(0, 120))"""
        )
        return found

    def faults(self) -> list[str]:
        """What axe-core finds, serious or critical (WCAG 2.x A and AA), one line each."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{fault['id']}: {node['target']} {node['html'][:160]}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]

    def open_all(self) -> None:
        self.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        self.page.wait_for_timeout(100)

    def close(self) -> None:
        self.page.close()
