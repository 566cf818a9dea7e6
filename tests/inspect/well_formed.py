"""well_formed.py WRITER FOLDER: runs WRITER FOLDER; the files it leaves there parse as XML and say what they should."""
import base64
import html.parser
import json
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as xml

writer, folder = sys.argv[1], pathlib.Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
subprocess.run([writer, str(folder)], check=True)
labels = ["[CLS]", "<b>", '"&"', "]]>", "</script>", "\ufffd\ufffd", "猫😀", ""]

svg = "{http://www.w3.org/2000/svg}"
for name, maps in (("one.svg", 1), ("grid.svg", 6)):
    root = xml.parse(folder / name).getroot()
    assert root.tag == svg + "svg", root.tag
    assert root.find(svg + "title").text == '<title> & "more" ]]>'
    texts = ["".join(t.itertext()) for t in root.iter(svg + "text")]
    for label in labels:
        assert label in texts, (name, label)
    groups = [g for g in root.findall(svg + "g")]
    assert len(groups) == maps, len(groups)
    assert all(element.tag.startswith(svg) for element in root.iter())

page = (folder / "page.html").read_text(encoding="utf-8")
root = xml.fromstring(page)
assert root.tag == "html" and root.find("head/title").text == '<title> & "more" ]]>'


class scripts(html.parser.HTMLParser):
    """The texts of <script>, as a browser finds them, and whether every tag closes."""
    found, open_tags = [], []

    def handle_starttag(self, tag, attributes):
        self.open_tags.append(tag)
        if tag == "script":
            self.found.append("")
        assert not any(name in ("src", "href") for name, _ in attributes), "something from elsewhere"

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag, tag

    def handle_data(self, data):
        if self.open_tags and self.open_tags[-1] == "script":
            self.found[-1] += data


parser = scripts()
parser.feed(page)
parser.close()
assert not parser.open_tags, parser.open_tags
assert len(parser.found) == 2
data = json.loads(parser.found[0])
assert data == json.loads(root.find(".//script[@id='data']").text)
assert data["queries"] == labels and data["keys"] == labels
stored = base64.b64decode(data["weights"])
numbers = [stored[i] | stored[i + 1] << 8 for i in range(0, len(stored), 2)]
assert len(numbers) == 2 * 3 * len(labels) ** 2
assert numbers[0] == 65535  # the NaN
assert all(abs(x / 65534 - i % 11 / 50) < 1e-5 for i, x in list(enumerate(numbers))[1:192])
