#!/usr/bin/env python3
"""Opens pages in a headless Chromium as a reader would, and prints what is wrong with them as JSON.

usage: look_at_pages.py [--shots DIR] PAGE.html...

Each page is looked at in light and in dark, 400 and 1600 pixels wide, and printed on A4. For each there is an
object: `page`, `problems` (a list of sentences, empty if all is well) and `facts` (title, headings, how many
charts, images, tables and rows there are, printed pages). Problems are: anything on the console, any request to the network,
scripts, images that did not load, text wider than the window, text that is hard to read on its background, text
in charts that overlaps or is cut off, colours that do not follow the scheme or are dark in print. With --shots
the screenshots and the PDF are kept in DIR. Needs Chromium (FEMDD_CHROMIUM, or `chromium` in PATH) and nothing
but Python's standard library: it talks to the browser by the DevTools protocol through a pipe.
"""

import argparse
import base64
import json
import os
import pathlib
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

# What is asked of the page itself.
LOOK = r"""
(() => {
  const problems = [];
  const wide = document.documentElement.scrollWidth;
  if (wide > window.innerWidth) problems.push(`the page is ${wide} pixels wide in a window of ${window.innerWidth}`);
  const channel = v => (v /= 255, v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const rgb = text => { const n = (text.match(/[\d.]+/g) || []).map(Number); return n.length === 4 && n[3] === 0 ? null : n; };
  const behind = e => {
    for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c && c.length >= 3) return c; }
    return [255, 255, 255];
  };
  const seen = new Set();
  for (const e of document.querySelectorAll("p,li,th,td,dt,dd,h1,h2,h3,summary,caption,figcaption,pre,footer,a,svg text")) {
    const style = getComputedStyle(e);
    const own = rgb(e.namespaceURI.endsWith("svg") ? style.fill : style.color), under = behind(e);
    if (!own) continue;
    const [a, b] = [light(own), light(under)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const key = `${own} on ${under}`;
    if (ratio < 4.5 && !seen.has(key)) {
      seen.add(key);
      problems.push(`text ${key} has a contrast of ${ratio.toFixed(2)}: ${e.textContent.slice(0, 40)}`);
    }
  }
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(e => [e.textContent, e.getBoundingClientRect()]);
    texts.forEach(([text, r], i) => {
      if (r.left < frame.left - 1 || r.right > frame.right + 1 || r.top < frame.top - 1 || r.bottom > frame.bottom + 1)
        problems.push(`chart text is cut off: ${text}`);
      for (const [other, s] of texts.slice(i + 1)) {
        const across = Math.min(r.right, s.right) - Math.max(r.left, s.left);
        const down = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
        // Boxes are higher than their letters.
        if (across > 1 && down > 0.45 * Math.min(r.height, s.height)) problems.push(`chart texts overlap: ${text} / ${other}`);
      }
    });
    if (!svg.querySelector("title")?.textContent || svg.getAttribute("role") !== "img") problems.push("a chart has no title or role");
  }
  for (const image of document.images)
    if (!image.complete || image.naturalWidth === 0 || !image.alt) problems.push("an image did not load or has no words for it");
  if (document.scripts.length > 0) problems.push("there is a script");
  for (const e of document.querySelectorAll("*"))
    for (const a of e.attributes) if (/^on/i.test(a.name)) problems.push(`an element has ${a.name}`);
  for (const table of document.querySelectorAll("table")) {
    const room = table.parentElement.getBoundingClientRect();
    if (room.right > window.innerWidth + 1) problems.push("a table sticks out");
  }
  return {
    problems,
    background: light(behind(document.body)),
    facts: {
      title: document.title,
      headings: [...document.querySelectorAll("h2")].map(e => e.textContent),
      charts: [...document.querySelectorAll("svg title")].filter(e => e.parentElement.tagName === "svg").map(e => e.textContent),
      images: document.images.length,
      captions: [...document.querySelectorAll("caption,figcaption")].map(e => e.textContent),
      rows: document.querySelectorAll("tbody tr").length,
      text: document.body.innerText,
    },
  };
})()
"""


class Browser:
    """A Chromium at the other end of a pipe."""

    def __init__(self, scratch):
        program = os.environ.get("FEMDD_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
        if not program:
            sys.exit("error: there is no Chromium: apt-get install chromium, or set FEMDD_CHROMIUM")
        to_browser, self.writer = os.pipe()
        self.reader, from_browser = os.pipe()

        def place():
            # The browser reads from 3 and writes to 4; either may be in use for the other one now.
            a, b = os.dup(to_browser), os.dup(from_browser)
            os.dup2(a, 3)
            os.dup2(b, 4)
            os.set_inheritable(3, True)
            os.set_inheritable(4, True)

        command = [program, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={scratch}",
                   "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
                   "--disable-component-update", "--disable-default-apps", "--disable-extensions",
                   "--disable-dev-shm-usage", "--force-color-profile=srgb", "about:blank"]
        if os.geteuid() == 0:
            command.insert(1, "--no-sandbox")
        self.log = open(os.path.join(scratch, "log"), "wb")
        self.process = subprocess.Popen(command, close_fds=False, preexec_fn=place, stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.events, self.number = b"", [], 0

    def receive(self, deadline):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.reader], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            some = os.read(self.reader, 1 << 20)
            if not some:
                sys.exit("error: Chromium ended: see its log below\n" + open(self.log.name, errors="replace").read())
            self.buffer += some
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, limit=60, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.writer, data):]
        deadline = time.monotonic() + limit
        while True:
            answer = self.receive(deadline)
            if answer is None:
                sys.exit(f"error: Chromium does not answer {method}")
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"error: Chromium refuses {method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait(self, method, session, limit=60):
        deadline = time.monotonic() + limit
        while not any(e.get("method") == method and e.get("sessionId") == session for e in self.events):
            event = self.receive(deadline)
            if event is None:
                sys.exit(f"error: Chromium never says {method}")
            self.events.append(event)

    def close(self):
        try:
            self.call("Browser.close", limit=10)
        finally:
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.log.close()


def complaints(events):
    """What the browser itself says of a page."""
    found = []
    for event in events:
        method, data = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled":
            found.append("console: " + " ".join(str(a.get("value", a.get("description"))) for a in data["args"]))
        elif method == "Runtime.exceptionThrown":
            found.append(f"exception: {data['exceptionDetails'].get('text')}")
        elif method == "Log.entryAdded":
            found.append(f"log: {data['entry']['level']}: {data['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            url = data["request"]["url"]
            if not url.startswith(("file:", "data:", "about:")):
                found.append(f"request: {url}")
        elif method == "Network.loadingFailed":
            found.append(f"loading failed: {data.get('errorText')} {data.get('blockedReason', '')}")
    return found


def look(browser, path, shots):
    name = path.stem if path.stem != "report" else path.parent.name
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    browser.events.clear()

    def call(method, **parameters):
        return browser.call(method, session, **parameters)

    for domain in ["Page", "Runtime", "Log", "Network"]:
        call(f"{domain}.enable")
    call("Page.navigate", url=path.resolve().as_uri())
    browser.wait("Page.loadEventFired", session)
    problems, facts = [], {}

    def media(kind, scheme):
        call("Emulation.setEmulatedMedia", media=kind, features=[{"name": "prefers-color-scheme", "value": scheme}])

    def ask(where, dark):
        answer = call("Runtime.evaluate", expression=LOOK, returnByValue=True)
        if "exceptionDetails" in answer:
            sys.exit(f"error: {answer['exceptionDetails']}")
        seen = answer["result"]["value"]
        problems.extend(f"{where}: {p}" for p in seen["problems"])
        if (seen["background"] < 0.2) != dark:
            problems.append(f"{where}: the background has a lightness of {seen['background']:.2f}")
        return seen["facts"]

    for scheme in ["light", "dark"]:
        for width in [400, 1600]:
            call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            media("", scheme)
            facts = ask(f"{scheme}, {width} pixels wide", scheme == "dark")
            if shots:
                shot = call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
                (shots / f"{name}-{scheme}-{width}.png").write_bytes(base64.b64decode(shot["data"]))
    # Paper is white, whatever the screen is.
    call("Emulation.setDeviceMetricsOverride", width=688, height=1000, deviceScaleFactor=1, mobile=False)
    media("print", "dark")
    ask("print", False)
    media("", "dark")
    pdf = base64.b64decode(call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])
    facts["printed_pages"] = len(re.findall(rb"/Type\s*/Page\b", pdf))
    if shots:
        (shots / f"{name}.pdf").write_bytes(pdf)
    problems.extend(complaints(e for e in browser.events if e.get("sessionId") == session))
    browser.call("Target.closeTarget", targetId=target)
    return {"page": str(path), "problems": problems, "facts": facts}


def main():
    arguments = argparse.ArgumentParser(description="Opens pages in a headless Chromium; prints what is wrong.")
    arguments.add_argument("--shots", type=pathlib.Path)
    arguments.add_argument("pages", nargs="+", type=pathlib.Path)
    given = arguments.parse_args()
    if given.shots:
        given.shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="femdd-chromium-") as scratch:
        browser = Browser(scratch)
        try:
            print(json.dumps([look(browser, page, given.shots) for page in given.pages], indent=1))
        finally:
            browser.close()


if __name__ == "__main__":
    main()
