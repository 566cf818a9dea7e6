"""Writes a using-declaration for each name that the headers declare in fovea itself: each_name.py INCLUDE OUT"""
import pathlib
import re
import sys

type_or_concept = re.compile(r"(?:struct|class|enum class|enum|concept|using)\s+(?:FOVEA_\w+\s+)?(\w+)")
constant = re.compile(r"inline constexpr\s[^=;{(]*?\b(\w+)(?:<.*>)?\s*[=;{]")
function = re.compile(r"[^()=;]*?(?<!::)\b(\w+)\(")
no_declaration = re.compile(r"#|//|\s|\}|template|requires|static_assert|using namespace|using std|FOVEA_NAMESPACE|\)|$")


def names_of(text):
    """Declarations of fovea itself begin in the first column, outside of its inner namespaces."""
    inner = False
    for line in text.replace("decltype(auto)", "auto").splitlines():
        if re.match(r"(inline )?namespace\b", line):
            inner = not re.search(r"\}\s*$", line)
        elif inner or no_declaration.match(line):
            inner = inner and not line.startswith("}  // namespace")
        else:
            for pattern in (type_or_concept, constant, function):
                if found := pattern.match(line):
                    yield found[1]
                    break


include, out = map(pathlib.Path, sys.argv[1:3])
names = set()
for header in include.rglob("*.hpp"):
    # openmp.hpp declares nothing without -fopenmp, and what is distributed needs MPI
    if header.name not in ("openmp.hpp", "config.hpp") and "distributed" not in str(header.relative_to(include)):
        names.update(names_of(header.read_text()))
names -= {"operator", "void", "auto"}
names = {name for name in names if not name.startswith("fovea_")}  # of C, in no namespace
assert {"attention", "causal", "merge", "viewable", "element_of", "reject", "find_unusual_heads"} <= names, names
assert len(names) > 200, names
out.write_text("".join(f"FOVEA_TEST_NAME({name})\n" for name in sorted(names)))
