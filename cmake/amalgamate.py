"""Writes the library as one header: amalgamate.py OUT [HEADER...]

HEADER: what it shall hold, attention.hpp for instance, with all that this includes; everything where none is named, but for
view/eigen_tensor.hpp, which needs Eigen's unsupported/, compiled.hpp, which needs the compiled library, and distributed.hpp,
which needs MPI. Each header of the library stands once, behind those that it includes.
Eigen, xsimd and the standard library stay #includes."""
import pathlib
import re
import sys

include = pathlib.Path(__file__).resolve().parent.parent / "include"
included = re.compile(r"\s*#\s*include\s*<([^>]+)>")
condition = re.compile(r"\s*#\s*(if|endif)")


class Amalgam:
    def __init__(self):
        self.text, self.ours, self.theirs = [], set(), set()

    def add(self, name):
        """A header behind those it includes; what others it includes, once, but for includes behind a condition."""
        if name in self.ours:
            return
        self.ours.add(name)
        kept, depth = [], 0
        for line in (include / name).read_text(encoding="utf-8").splitlines():
            if found := condition.match(line):
                depth += 1 if found[1] == "if" else -1
            elif line == "#pragma once":
                continue
            elif found := included.match(line):
                if found[1].startswith("fovea/"):
                    assert depth == 0, f"{name} includes {found[1]} behind a condition"
                    self.add(found[1])
                    continue
                if depth == 0 and found[1] in self.theirs:
                    continue
                if depth == 0:
                    self.theirs.add(found[1])
            if line or (kept and kept[-1]):
                kept.append(line)
        self.text += kept + [""]


def main(out, *headers):
    version = ".".join(re.findall(r"#define FOVEA_VERSION_\w+ (\d+)", (include / "fovea/config.hpp").read_text())[:3])
    amalgam = Amalgam()
    for name in headers or sorted(path.name for path in (include / "fovea").glob("*.hpp")
                                  if path.name not in ("compiled.hpp", "distributed.hpp")):
        amalgam.add(f"fovea/{name}")
    heading = [f"// fovea {version} in one header, made by cmake/amalgamate.py from include/fovea. Apache License 2.0.",
               "// Needs C++20, Eigen >= 3.4 and xsimd.", "#pragma once", ""]
    pathlib.Path(out).write_text("\n".join(heading + amalgam.text), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
