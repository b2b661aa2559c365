# Copyright (c) MotionMAE contributors. All rights reserved.
"""The floors of the package; a room imports rooms of lower floors only.

``python tests/test_layers.py`` draws which room imports which.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1] / 'mmmotionmae'
FLOORS = (
    ('utils',),
    ('models', 'compat'),
    ('datasets',),
    ('checkpoints', 'evaluation', 'visualization'),
    ('engine',),
    ('apis',),
    ('cli',),
)
FLOOR_OF = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
# Below all floors: it imports nothing, and `setup.cfg` reads it.
GROUND = ('version',)


class Import(NamedTuple):
    """An import of a module of the package, in another.

    Attributes:
        where: File and line.
        importer: The module that imports, below the package: ``a.b``.
        imported: The module, or the name in it.
        in_function: Whether it waits for a call.
    """

    where: str
    importer: str
    imported: str
    in_function: bool


def read_imports(package: Path = PACKAGE) -> list[Import]:
    """All imports inside the package, also those for type checkers only."""
    found = []
    for path in sorted(package.rglob('*.py')):
        parts = path.relative_to(package).with_suffix('').parts
        tree = ast.parse(path.read_text(encoding='utf-8'))
        for node, in_function in _walk(tree, False):
            for name in _names(node, package.name, parts[:-1]):
                where = f'{path.relative_to(package.parent)}:{node.lineno}'
                importer = '.'.join(parts)
                found.append(Import(where, importer, name, in_function))
    return found


def _walk(node: ast.AST, inside: bool) -> Iterator[tuple[ast.AST, bool]]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield child, inside
        yield from _walk(child, inside or isinstance(child, functions))


def _names(
    node: ast.AST, package: str, folder: tuple[str, ...]
) -> Iterator[str]:
    """What an import names, below the package; nothing of other packages."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if f'{alias.name}.'.startswith(f'{package}.'):
                yield alias.name.removeprefix(package).removeprefix('.')
    if isinstance(node, ast.ImportFrom):
        parts = node.module.split('.') if node.module else []
        if node.level:
            parts = [*folder[: len(folder) + 1 - node.level], *parts]
        elif parts[0] == package:
            parts = parts[1:]
        else:
            return
        for alias in node.names:
            yield '.'.join([*parts, alias.name])


def room_of(name: str) -> str:
    """The room that a module of the package is in."""
    return name.split('.')[0]


def room_graph() -> dict[str, set[str]]:
    """Which rooms each room imports, from the lowest floor up."""
    graph: dict[str, set[str]] = {room: set() for room in FLOOR_OF}
    for entry in read_imports():
        importer, imported = room_of(entry.importer), room_of(entry.imported)
        if importer in graph and importer != imported:
            graph[importer].add(imported)
    return graph


def test_every_room_has_a_floor():
    rooms = {path.parent.name for path in PACKAGE.glob('*/__init__.py')}
    modules = {path.stem for path in PACKAGE.glob('*.py')}
    assert rooms == set(FLOOR_OF)
    assert modules == {'__init__', *GROUND}


def test_rooms_import_rooms_of_lower_floors():
    wrong = []
    for entry in read_imports():
        importer, imported = room_of(entry.importer), room_of(entry.imported)
        if importer in ('__init__', imported) or imported in GROUND:
            continue
        if not FLOOR_OF.get(imported, 99) < FLOOR_OF.get(importer, -1):
            wrong.append(f'{entry.where}: {importer} imports {imported}')
    assert not wrong, '\n'.join(wrong)


def test_nothing_of_ours_is_imported_inside_a_function():
    late = [
        f'{entry.where}: {entry.imported}'
        for entry in read_imports()
        if entry.in_function
    ]
    assert not late, '\n'.join(late)


def test_modules_do_not_import_in_a_circle():
    modules = {
        '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)
        for path in PACKAGE.rglob('*.py')
    }
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for entry in read_imports():
        name = entry.imported
        folder = name.rpartition('.')[0]
        for module in (name, f'{name}.__init__', folder, f'{folder}.__init__'):
            if module in modules:
                graph[entry.importer].add(module)
                break
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        assert module not in path, ' -> '.join([*path, module])
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, [*path, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])


def test_what_the_reader_of_imports_sees(tmp_path):
    package = tmp_path / 'mmmotionmae'
    (package / 'models').mkdir(parents=True)
    (package / 'models' / 'a.py').write_text(
        'import torch\n'
        'import mmmotionmae.apis\n'
        'from typing import TYPE_CHECKING\n'
        'from ..engine import hooks as h\n'
        'from .b import x, y\n'
        'if TYPE_CHECKING:\n'
        '    from mmmotionmae.cli.splits import z\n'
        'def f():\n'
        '    from . import c\n'
    )
    entries = read_imports(package)
    assert [(e.imported, e.in_function) for e in entries] == [
        ('apis', False),
        ('engine.hooks', False),
        ('models.b.x', False),
        ('models.b.y', False),
        ('cli.splits.z', False),
        ('models.c', True),
    ]
    assert entries[-1].where == 'mmmotionmae/models/a.py:9'
    assert {entry.importer for entry in entries} == {'models.a'}


if __name__ == '__main__':
    graph = room_graph()
    for number, rooms in reversed([*enumerate(FLOORS)]):
        for room in rooms:
            below = sorted(graph[room], key=lambda r: -FLOOR_OF.get(r, -1))
            print(f'{number} {room:13} -> {", ".join(below) or "-"}')
