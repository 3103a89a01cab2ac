"""A Sphinx extension: the directive `api`, which writes a room's reference from its docstrings.

    ```{api} guidance
    :taught: 07_guidance_schedules
    ```

It says where the room is taught, and shows every public name of `unasdiff_teach.guidance` with its signature, its
docstring, its documented methods, and links to the chapters that use it; to the first chapter of `taught` where none
does. `{api-rooms}` lists the rooms named in its content, each with the first sentence of its docstring and a link to
its page, `api_ROOM`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PACKAGE = "unasdiff_teach"
BOOK = Path(__file__).resolve().parent.parent
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Source):\s*(.*)")
ENTRY = re.compile(r"([\w*]+(?:, [\w*]+)*)(?: \[[^\]]*\])?: ")
WIDEST = 88  # characters of a signature on one line


def setup(app: Sphinx) -> dict:
    app.add_directive("api", Api)
    app.add_directive("api-rooms", Rooms)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# ------------------------------------------------------------------------------------ what there is


def public(room: str) -> dict[str, object]:
    """Name -> object of a room: its `__all__`, but for what it passes on from another room; or for a single file the
    classes and functions that it defines.
    """
    module = importlib.import_module(f"{PACKAGE}.{room}")
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]
    found = {name: getattr(module, name) for name in names}
    return {
        name: value
        for name, value in found.items()
        if not isinstance(value, ModuleType) and not _shown_elsewhere(name, value, room)
    }


def _shown_elsewhere(name: str, value: object, room: str) -> bool:
    """Whether another public room defines this, and shows it."""
    package, _, rest = getattr(value, "__module__", "").partition(".")
    home = rest.partition(".")[0]
    if package != PACKAGE or home == room or home.startswith("_"):
        return False
    module = importlib.import_module(f"{PACKAGE}.{home}")
    return name in getattr(module, "__all__", vars(module))


def members(cls: type) -> dict[str, object]:
    """Documented public methods and properties that a class defines itself."""
    found = {}
    for name, value in vars(cls).items():
        plain = inspect.unwrap(getattr(value, "__func__", getattr(value, "fget", getattr(value, "func", value))))
        if (not name.startswith("_") or name == "__call__") and inspect.isfunction(plain) and plain.__doc__:
            found[name] = value
    return found


@lru_cache
def chapters_of() -> dict[int, list[str]]:
    """Identity of an object of the package -> the chapters whose code names it, in reading order."""
    package, found = importlib.import_module(PACKAGE), {}
    for path in sorted(BOOK.glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
        for value in _named(code, package):
            chapters = found.setdefault(id(value), [])
            if path.stem not in chapters:
                chapters.append(path.stem)
    return found


def _named(code: list[ast.Module], package: ModuleType):
    """Every object of the package that some code imports, or reaches from an import by dots."""
    imported = {}
    for node in (node for tree in code for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            imported |= {name.asname: package for name in node.names if name.name == PACKAGE and name.asname}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            imported |= {name.asname or name.name: _attribute(node.module, name.name) for name in node.names}
    yield from imported.values()
    for node in (node for tree in code for node in ast.walk(tree)):
        path = []
        while isinstance(node, ast.Attribute):
            path.insert(0, node.attr)
            node = node.value
        value = imported.get(node.id) if isinstance(node, ast.Name) else None
        for name in path:
            value = getattr(value, name, None)
            if value is not None:
                yield value


def _attribute(module: str, name: str) -> object:
    """What `from module import name` gives, which may be a module not imported before."""
    found = importlib.import_module(module)
    return getattr(found, name) if hasattr(found, name) else importlib.import_module(f"{module}.{name}")


# ---------------------------------------------------------------------------------- how it is shown


class Api(SphinxDirective):
    required_arguments = 1
    option_spec = {"taught": directives.unchanged_required}

    @cached_property
    def room(self) -> str:
        return self.arguments[0]

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(f"{PACKAGE}.{self.room}")
        shown = docstring(inspect.getdoc(module) or "", ())
        if "taught" in self.options:
            shown += [self.links("Taught in chapter", self.taught)]
        if hasattr(module, "app"):
            return [*shown, commands(module.app)]
        return shown + [self.described(name, value) for name, value in public(self.room).items()]

    @cached_property
    def taught(self) -> list[str]:
        return self.in_book(self.options.get("taught", "").split())

    def in_book(self, chapters: list[str]) -> list[str]:
        return [chapter for chapter in chapters if f"book/{chapter}" in self.env.found_docs]

    def described(self, name: str, value: object, owner: str = "") -> addnodes.desc:
        """One name: signature, docstring, chapters, and the methods of a class."""
        kind = kind_of(value, owner)
        in_package = getattr(importlib.import_module(PACKAGE), name, None) is value  # such as ut.separate
        prefix = owner or ("ut." if in_package else f"ut.{self.room}.")
        full = f"{PACKAGE}.{'' if in_package and not owner else self.room + '.'}{owner}{name}"
        entry = addnodes.desc(domain="py", objtype=kind, desctype=kind, classes=["py", kind])
        signature = addnodes.desc_signature("", "", ids=[full], classes=["sig", "sig-object", "py"])
        signature += [addnodes.desc_annotation("", word + " ") for word in ("class",) if kind == "class"]
        signature += [addnodes.desc_addname("", prefix), addnodes.desc_name("", name), *parameters(value)]
        content = addnodes.desc_content()
        if kind == "data":
            signature += addnodes.desc_annotation("", f" = {shown(value)}")
        else:
            content += docstring(inspect.getdoc(value) or "", names_of(value))
        if not owner:
            content += self.links("Chapter", self.in_book(chapters_of().get(id(value), [])) or self.taught[:1])
        if inspect.isclass(value):
            content += [self.described(n, member, f"{name}.") for n, member in members(value).items()]
        entry += [signature, content]
        self.state.document.note_explicit_target(signature)
        self.env.domains["py"].note_object(full, kind, full, location=signature)
        return entry

    def links(self, title: str, chapters: list[str]) -> nodes.paragraph:
        shown = nodes.paragraph("", title + ("s " if len(chapters) > 1 else " "), classes=["api-chapters"])
        for i, chapter in enumerate(chapters):
            number = chapter.partition("_")[0].lstrip("0")
            link = link_to(chapter, nodes.inline("", number or "0"), self.env.docname)
            shown += [nodes.Text(", "), link] if i else [link]
        return shown


class Rooms(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        shown = nodes.definition_list(classes=["api-rooms"])
        for room in self.content:
            link = link_to(f"api_{room}", nodes.literal("", room), self.env.docname)
            doc = inspect.getdoc(importlib.import_module(f"{PACKAGE}.{room}")) or ""
            first = text(re.split(r"(?<=\.)\s+(?=[A-Z])", doc)[0])
            shown += nodes.definition_list_item("", nodes.term("", "", link), nodes.definition("", first))
        return [shown]


def link_to(page: str, words: nodes.Node, at: str) -> addnodes.pending_xref:
    """A link on page `at` to a page of the book."""
    options = {"refdomain": "std", "reftype": "doc", "refexplicit": True, "refwarn": True}
    return addnodes.pending_xref("", words, reftarget=f"/book/{page}", refdoc=at, **options)


def kind_of(value: object, owner: str = "") -> str:
    if inspect.isclass(value):
        return "class"
    if owner:
        return "method" if callable(value) or isinstance(value, classmethod | staticmethod) else "property"
    return "function" if callable(value) else "data"


def shown(value: object) -> str:
    """`repr`, with paths from the package on: a page does not say where it was built."""
    return re.sub(r"\w+Path\('[^']*/(?=unasdiff_teach/)([^']*)'\)", r"Path('\1')", repr(value))


def signature_of(value: object) -> inspect.Signature | None:
    """Of anything that is called; None for what is not, such as a property."""
    value = getattr(value, "__func__", value)
    if not callable(value):
        return None
    found = inspect.signature(value)
    kept = [p for p in found.parameters.values() if p.name not in ("self", "cls")]
    return found.replace(parameters=kept)


def names_of(value: object) -> tuple[str, ...]:
    found = signature_of(value)
    return tuple(found.parameters) if found else ()


def parameters(value: object) -> list[nodes.Node]:
    """The brackets of a signature, and what it returns."""
    found = signature_of(value)
    if found is None:
        return []
    written = [argument(p) for p in found.parameters.values()]
    brackets = addnodes.desc_parameterlist()
    brackets["multi_line_parameter_list"] = sum(map(len, written)) + 2 * len(written) > WIDEST
    brackets["multi_line_trailing_comma"] = True
    brackets += [addnodes.desc_parameter("", "", nodes.Text(text)) for text in written]
    if inspect.isclass(value) or found.return_annotation in (inspect.Signature.empty, None, "None"):
        return [brackets]
    return [brackets, addnodes.desc_returns("", annotation(found.return_annotation))]


def annotation(kind: object) -> str:
    """As it is written in the code."""
    return kind if isinstance(kind, str) else inspect.formatannotation(kind)


def argument(parameter: inspect.Parameter) -> str:
    written = str(parameter.replace(annotation=parameter.empty, default=parameter.empty))
    typed = parameter.annotation is not parameter.empty
    if typed:
        written += f": {annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        default = shown(parameter.default)
        written += (" = " if typed else "=") + ("..." if default.startswith("<") else default)
    return written


def commands(app, path: str = "unasdiff-teach") -> nodes.definition_list:
    """The commands of a Typer application, with the first sentence of their help."""
    import typer

    shown = nodes.definition_list()
    todo = [(f"{path} {name}", command) for name, command in typer.main.get_command(app).commands.items()]
    while todo:
        name, command = todo.pop(0)
        below = [(f"{name} {n}", c) for n, c in getattr(command, "commands", {}).items()]
        todo = below + todo
        if not below:
            first = (command.help or "").split("\n\n")[0]
            shown += nodes.definition_list_item(
                "", nodes.term("", "", nodes.literal("", name)), nodes.definition("", text(first))
            )
    return shown


# ------------------------------------------------------------------------------------- docstrings


def text(words: str) -> nodes.paragraph:
    """A paragraph; what stands in backticks, and a single word in quotes, is code. Nothing else is markup."""
    parts = re.split(r"`([^`]+)`|(\"\w+\")", " ".join(words.split()))
    parts = [part for part in parts if part is not None]
    return nodes.paragraph(
        "", "", *(nodes.literal("", part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts))
    )


def docstring(doc: str, known: tuple[str, ...]) -> list[nodes.Node]:
    """Nodes of a docstring with the sections of Google's style. `known` are names of arguments, for those that stand
    outside.
    """
    shown, blocks = [], re.split(r"\n\s*\n", doc.strip("\n"))
    section = ""
    for block in blocks:
        lines = block.split("\n")
        if begins := SECTION.fullmatch(lines[0]):
            section, lines = begins[1], [f"    {begins[2]}"] * bool(begins[2]) + lines[1:]
            shown.append(nodes.rubric("", section))
        elif not lines[0].startswith(" "):
            section = ""
        if section in ("Args", "Attributes", "Raises"):
            shown.append(entries(inspect.cleandoc("\n".join(["", *lines])).split("\n")))
        elif not section and all(line.startswith("    ") for line in lines):
            shown.append(nodes.literal_block("", inspect.cleandoc("\n".join(["", *lines])), language="python"))
        elif not section and (names := ENTRY.match(lines[0])) and set(names[1].split(", ")) <= set(known):
            shown.append(entries(lines))
        else:
            shown.append(text(block if not section else "\n".join(lines)))
    return shown


def entries(lines: list[str]) -> nodes.definition_list:
    """`name: what it is`, each with the lines that continue it; a line without a name stands by itself."""
    items = []
    for line in lines:
        if ENTRY.match(line) or not items:
            items.append([line])
        else:
            items[-1].append(line)
    shown = nodes.definition_list(classes=["api-entries"])
    for item in (" ".join(item) for item in items):
        begins = ENTRY.match(item)
        term, rest = (begins[0].rstrip(": "), item[begins.end() :]) if begins else ("", item)
        shown += nodes.definition_list_item(
            "", nodes.term("", "", *([nodes.literal("", term)] * bool(term))), nodes.definition("", text(rest))
        )
    return shown
