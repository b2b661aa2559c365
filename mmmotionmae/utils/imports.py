# Copyright (c) MotionMAE contributors. All rights reserved.
"""Imports that wait, and what is done as soon as a module is imported.

PyTorch and MMEngine take seconds to import. ``import mmmotionmae`` imports
neither; it leaves a note of what is to happen once another does.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_waiting: dict[str, list[Callable[[], object]]] = {}
# Modules with patches that are being imported, and what waits for each.
_patching: dict[str, list[Callable[[], object]]] = {}
_patches: set[str] = set()


def once(function: Callable) -> Callable:
    """Run ``function`` on the first call only."""
    done = False

    @wraps(function)
    def wrapper() -> None:
        nonlocal done
        if not done:
            done = True
            function()

    return wrapper


def after_import(name: str, action: Callable[[], object]) -> None:
    """Run something as soon as a module has been imported, by whomever.

    It runs before the import returns, so nobody has the module without it;
    several for one module run in the order in which they were given. Where
    the module is imported already it runs at once.

    Args:
        name: Full name of the module.
        action: Called once. The module is complete; the packages around it,
            and who imports it, may not be.
    """
    if sys.modules.get(name) is not None:
        import_module(name)  # another thread may be at it
        action()
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _waiting.setdefault(name, []).append(action)


def patch_after_import(
    package: str, patches: Iterable[tuple[str, str]]
) -> None:
    """Call functions of a package, each as soon as a module is imported.

    Args:
        package: Whose functions they are.
        patches: Pairs of a module that is waited for, and a function, named
            ``module.function``; its module is imported then.
    """
    for name, function in patches:
        call = _Call(package, function)
        _patches.add(call.module)
        after_import(name, call)


def names_from(package: str, homes: Mapping[str, str]) -> Callable:
    """A module ``__getattr__`` that imports names when they are asked for.

    Args:
        package: The package that has them.
        homes: For each name the module below the package that it comes from;
            its own name if it is that module.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(
                f'module {package!r} has no attribute {name!r}'
            )
        module = import_module(f'{package}.{homes[name]}')
        value = module if homes[name] == name else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    return get


def lazy_module(name: str) -> Any:
    """A stand-in for a module, which is imported for its first attribute."""
    return _LazyModule(name)


class _LazyModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


class _Call:
    def __init__(self, package: str, function: str) -> None:
        self.module, _, self.name = f'{package}.{function}'.rpartition('.')

    def __call__(self) -> None:
        if self.module in _patching:  # it imports what it is to patch
            _patching[self.module].append(self)
        else:
            getattr(import_module(self.module), self.name)()


class _Finder(MetaPathFinder):
    """Finds nothing itself; notices when what is waited for is loaded."""

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _waiting and fullname not in _patches:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, 'find_spec', None)
            if finder is self or find is None:
                continue
            spec = find(fullname, path, target)
            if spec is not None:
                _run_after_loading(fullname, spec.loader)
                return spec
        return None


def _run_after_loading(name: str, loader: Any) -> None:
    load = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module  # the loader is as it was
        if name in _patches:
            _patching[name] = []
        try:
            load(module)
        finally:
            postponed = _patching.pop(name, [])
        for action in [*postponed, *_waiting.pop(name, ())]:
            action()

    loader.exec_module = exec_module
