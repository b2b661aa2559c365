# Copyright (c) MotionMAE contributors. All rights reserved.
"""List what the package and its tools say when something is wrong.

``docs/troubleshooting.md`` has each of these texts, with its cause and the way
out. This prints the rows that are missing there, to be filled in, and the
texts on the page that nothing says any more::

    python tools/dev/error_texts.py

A text is the argument of an exception, read from the source: whatever is
filled in, is ``…``. Names are followed to what is assigned to them or, if they
are parameters, to what phrases the function is called with; calls, to what the
function returns.
"""

import argparse
import ast
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs/troubleshooting.md'
FIELD = '…'
MOST = 4  # forms of one text
DEPTH = 4  # names that are followed
Function = ast.FunctionDef | ast.AsyncFunctionDef
Seen = tuple[tuple[Function | None, str], ...]


class Sources:
    """The texts of the errors in Python files.

    Args:
        paths: Of the files.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.trees = {path: ast.parse(path.read_text()) for path in paths}
        self._functions: dict[str, list[Function]] = defaultdict(list)
        self._calls: dict[str, list[tuple[ast.Call, Function | None]]]
        self._calls = defaultdict(list)
        self._attributes: dict[str, list[tuple[ast.expr, Function | None]]]
        self._attributes = defaultdict(list)
        self._constants: dict[str, list[ast.expr]] = defaultdict(list)
        self._methods: set[Function] = set()
        # Where functions and calls are, and what files import.
        self._files: dict[ast.AST, Path] = {}
        self._imports: dict[Path, set[str]] = {}
        for path, tree in self.trees.items():
            for node in tree.body:
                if isinstance(node, ast.Assign):
                    for target in node.targets:
                        self._constants[ast.unparse(target)] += [node.value]
            self._index(tree, None, False)
            self._files |= dict.fromkeys(ast.walk(tree), path)
            self._imports[path] = {
                alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }

    def texts(self) -> Iterator[tuple[str, Path, int]]:
        """Each text of an error, the file and the line that has it."""
        for path, tree in self.trees.items():
            for node, function in _calls_in(tree, None):
                if (message := _message_of(node)) is None:
                    continue
                for text in sorted(self._render(message, function, ())):
                    if re.search(r'\w', text.replace(FIELD, '')):
                        yield ' '.join(text.split()), path, node.lineno

    def _index(
        self, node: ast.AST, function: Function | None, in_class: bool
    ) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                self._functions[child.name].append(child)
                if in_class:
                    self._methods.add(child)
                self._index(child, child, False)
                continue
            if isinstance(child, ast.Call):
                self._calls[_name(child.func)].append((child, function))
            if isinstance(child, ast.Assign):
                for target in child.targets:
                    if ast.unparse(target).startswith('self.'):
                        name = _name(target)
                        self._attributes[name].append((child.value, function))
            self._index(child, function, isinstance(child, ast.ClassDef))

    def _render(
        self,
        node: ast.expr,
        function: Function | None,
        seen: Seen,
    ) -> set[str]:
        """What an expression may be, as far as the source tells."""
        if len(seen) > DEPTH:
            return {FIELD}
        match node:
            case ast.Constant(value=str(text)):
                return {text}
            case ast.JoinedStr(values=parts):
                return _joined(
                    self._render(part, function, seen) for part in parts
                )
            case ast.FormattedValue(value=ast.Name(id=name)) if (
                function and any(_added(function, name))
            ):
                return {FIELD}
            case ast.FormattedValue(value=value):
                return _phrases(self._render(value, function, seen))
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _joined(
                    self._render(part, function, seen)
                    for part in (left, right)
                )
            case ast.IfExp(body=first, orelse=second):
                return self._render(first, function, seen) | self._render(
                    second, function, seen
                )
            case ast.BoolOp(values=values):
                return set().union(
                    *(self._render(value, function, seen) for value in values)
                )
            case ast.Name(id=name) if (function, name) not in seen:
                seen = (*seen, (function, name))
                return self._render_name(name, function, seen)
            case ast.Attribute(value=ast.Name(id='self'), attr=name):
                return self._render_attribute(name, function, seen)
            case ast.Call(func=ast.Name(id=name)):
                return self._render_returned(name, seen)
        return {FIELD}

    def _render_name(
        self, name: str, function: Function | None, seen: Seen
    ) -> set[str]:
        found: set[str] = set()
        if function:
            for value in _assigned(function, name):
                found |= self._render(value, function, seen)
            for value in _added(function, name):
                more = self._render(value, function, seen)
                found |= _joined([{FIELD}, more])
            found |= self._render_passed(name, function, seen)
        if not found:
            file = self._files.get(function) if function else None
            for value in self._constants.get(name, ()):
                home = self._files[value]
                if file in (None, home) or name in self._imports[file]:
                    found |= self._render(value, None, seen)
        return found or {FIELD}

    def _render_passed(
        self, name: str, function: Function, seen: Seen
    ) -> set[str]:
        """What a function is called with for a parameter."""
        args = function.args
        names = [arg.arg for arg in (*args.posonlyargs, *args.args)]
        if name not in names + [arg.arg for arg in args.kwonlyargs]:
            return set()
        if function in self._methods:
            names = names[1:]
        if (function, '(') in seen:
            return {FIELD}
        seen = (*seen, (function, '('))
        found: set[str] = set()
        for call, caller in self._calls[function.name]:
            if not self._may_call(call, function):
                continue
            passed = [k.value for k in call.keywords if k.arg == name]
            if name in names and len(call.args) > names.index(name):
                passed.append(call.args[names.index(name)])
            for value in passed:
                found |= _phrases(self._render(value, caller, seen))
        return found

    def _may_call(self, call: ast.Call, function: Function) -> bool:
        """Whether it can be this function, and not another of its name."""
        if isinstance(call.func, ast.Attribute) or function in self._methods:
            return function in self._methods
        file = self._files[call]
        return file == self._files[function] or (
            function.name in self._imports[file]
        )

    def _render_returned(self, name: str, seen: Seen) -> set[str]:
        """What functions of a name return."""
        found = set()
        for function in self._functions.get(name, ()):
            if (function, 'return') in seen:
                continue
            for node in _nodes(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    found |= self._render(
                        node.value, function, (*seen, (function, 'return'))
                    )
        return found or {FIELD}

    def _render_attribute(
        self, name: str, user: Function | None, seen: Seen
    ) -> set[str]:
        """What the attribute of an object is set to, in the same file."""
        seen, told = (*seen, (None, f'.{name}')), (None, f'.{name}') in seen
        found: set[str] = set()
        for value, function in () if told else self._attributes[name]:
            if user and self._files[value] == self._files[user]:
                found |= self._render(value, function, seen)
        return found or {FIELD}


@cache
def _nodes(function: Function) -> list[ast.AST]:
    return list(ast.walk(function))


def _assigned(function: Function, name: str) -> Iterator[ast.expr]:
    for node in _nodes(function):
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            targets = [node.target]
        else:
            continue
        if node.value and any(_is_name(t, name) for t in targets):
            yield node.value


def _added(function: Function, name: str) -> Iterator[ast.expr]:
    for node in _nodes(function):
        if isinstance(node, ast.AugAssign) and _is_name(node.target, name):
            yield node.value


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _calls_in(
    node: ast.AST, function: Function | None
) -> Iterator[tuple[ast.Call, Function | None]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child, function
        yield from _calls_in(
            child, child if isinstance(child, Function) else function
        )


def _message_of(call: ast.Call) -> ast.expr | None:
    """The text that an exception, or a parser's error, is made with."""
    name = _name(call.func)
    is_error = re.fullmatch(r'_?[A-Z]\w*Error|SystemExit', name)
    message = call.args[-1] if call.args else None
    if is_error or ast.unparse(call.func) == 'parser.error':
        return message
    if name == 'print' and isinstance(message, ast.JoinedStr):
        match message.values:
            case [ast.Constant(value='error: '), ast.FormattedValue() as rest]:
                return rest.value
    return None


def _name(node: ast.expr) -> str:
    return ast.unparse(node).split('.')[-1]


def _phrases(texts: set[str]) -> set[str]:
    """Those that are told: others are a field."""
    phrases = {text for text in texts if re.search(r'\w+ \w+', text)}
    return (
        phrases
        if phrases and phrases >= texts - {''}
        else {
            *phrases,
            FIELD,
        }
    )


def _joined(parts: Iterable[set[str]]) -> set[str]:
    """All that parts make together, or, of very many, each by itself."""
    parts = list(parts)
    if math.prod(map(len, parts)) <= MOST:
        return {''.join(texts) for texts in product(*parts)}
    phrases = {
        text
        for texts in parts
        if len(texts) > 1
        for text in texts
        if len(re.findall(r'\w+', text)) > 2
    }
    fields = [FIELD if len(texts) > 1 else min(texts) for texts in parts]
    return {''.join(fields), *phrases}


def texts_of_page(page: str) -> list[str]:
    """The texts that the tables of the page have in their first column."""
    cells = re.findall(r'^\| (`.*?) (?<!\\)\|', page, flags=re.M)
    codes = [code for cell in cells for code in cell.split('<br>')]
    return [
        code.strip('`').strip(' ').replace(r'\|', '|')
        if code.startswith('``')
        else code[1:-1].replace(r'\|', '|')
        for code in codes
    ]


def row_of(texts: Iterable[str], cause: str = '', way_out: str = '') -> str:
    """The row of a table."""
    codes = []
    for text in texts:
        ticks = '`` ' if '`' in text else '`'
        codes.append(ticks + text.replace('|', r'\|') + ticks[::-1])
    return f'| {"<br>".join(codes)} | {cause} | {way_out} |'


def read_texts() -> dict[str, list[str]]:
    """Where each text is: file and line."""
    found: dict[str, list[str]] = defaultdict(list)
    paths = [*ROOT.glob('mmmotionmae/**/*.py'), *ROOT.glob('tools/**/*.py')]
    paths = [path for path in sorted(paths) if '.mim' not in path.parts]
    for text, path, line in Sources(paths).texts():
        found[text].append(f'{path.relative_to(ROOT).as_posix()}:{line}')
    return found


def main() -> int:
    """Print what is missing on the page, and what is too much."""
    argparse.ArgumentParser(
        description='compare docs/troubleshooting.md with the errors that '
        'the source can raise; exit with 1 where they differ'
    ).parse_args()
    found = read_texts()
    listed = texts_of_page(PAGE.read_text())
    missing = [text for text in found if text not in listed]
    for text in missing:
        print(f'missing, {", ".join(found[text])}:\n{row_of([text])}')
    gone = [text for text in listed if text not in found]
    for text in gone:
        print(f'gone:\n{row_of([text])}')
    return int(bool(missing or gone))


if __name__ == '__main__':
    sys.exit(main())
