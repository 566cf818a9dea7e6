"""narrow_window.py FOLDER BROWSER: in a window of 420 pixels the page is not scrolled sideways and shows its whole
title; with many keys it starts with the colours that tell small weights apart. (77: there is no browser.)"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

browser = shutil.which(sys.argv[2])
if browser is None:
    print("no browser to look with")
    sys.exit(77)

folder = pathlib.Path(sys.argv[1])
for name, colour in (("page.html", "root"), ("wide.html", "logarithm")):
    page = (folder / name).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        frame = pathlib.Path(scratch, "frame.html")
        frame.write_text("""<!DOCTYPE html><meta charset="utf-8"><body><iframe style="width:420px;height:900px;border:0"></iframe>
<p id="seen"></p><script>
const frame = document.querySelector('iframe');
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement, title = page.querySelector('h1');
  document.getElementById('seen').textContent = JSON.stringify(
    [root.clientWidth, root.scrollWidth, title.clientHeight, title.scrollHeight, page.getElementById('colour').value]);
};
frame.srcdoc = """ + json.dumps(page).replace("</", "<\\/") + "</script>", encoding="utf-8")
        seen = subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000",
                               "--dump-dom", frame.as_uri()], capture_output=True, text=True, timeout=60).stdout
    width, wide, height, high, chosen = json.loads(re.search(r'<p id="seen">(\[.*?\])</p>', seen).group(1))
    print(name, width, wide, height, high, chosen)
    assert 380 <= width <= 420 and wide <= width, f"{name} is {wide} pixels wide in a window of {width}"
    assert high <= height, f"the title of {name} is {high} pixels high, of which {height} are shown"
    assert chosen == colour, chosen
