# Copyright (c) MotionMAE contributors. All rights reserved.
"""What is imported when: nothing that takes time before it is needed."""

import ast
import importlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import mmaction.registry
import mmengine.registry
import pytest
from helpers.processes import HUNG
from mmengine.registry import Registry

import mmmotionmae
from mmmotionmae import (
    apis,  # noqa: F401  (registers the inferencer)
    checkpoints,
    compat,
)
from mmmotionmae.checkpoints import FORMATS
from mmmotionmae.compat import numpy_names
from mmmotionmae.datasets.readers import READERS
from mmmotionmae.utils import choices, imports

ROOT = Path(__file__).parents[1]
TOOLS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / 'tools').rglob('*.py')
    if "if __name__ == '__main__'" in path.read_text(encoding='utf-8')
)


def run_python(code, *args, folder=ROOT):
    """The last line that new Python code prints, read as JSON."""
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
        cwd=folder,
        timeout=HUNG,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


# ------------------------------------------------------------- the package


def test_importing_the_package_imports_nobody_else():
    """Not even what MMAction2 cannot do without; OpenCV, to check it."""
    code = """
        import json, sys, cv2
        before = set(sys.modules)
        import mmmotionmae
        print(json.dumps(sorted(set(sys.modules) - before)))
    """
    new = {name.split('.')[0] for name in run_python(code)}
    assert new - set(sys.stdlib_module_names) == {'mmmotionmae'}


def test_mmaction_imports_no_more_than_by_itself():
    code = """
        import importlib, json, sys
        for name in sys.argv[1:]:
            importlib.import_module(name)
        print(json.dumps(sorted(sys.modules)))
    """
    mmaction = ('mmaction', 'mmaction.registry')
    plain = run_python(code, *mmaction)
    ours = run_python(code, 'mmmotionmae', *mmaction)
    new = {name.split('.')[0] for name in set(ours) - set(plain)}
    # The stand-in for DRN is a module of MMAction2.
    assert new - set(sys.stdlib_module_names) <= {'mmaction', 'mmmotionmae'}


def registered():
    """Names in each registry of MMEngine and MMAction2, by class."""
    return {
        f'{module.__name__}.{name}': {
            key: f'{cls.__module__}.{cls.__qualname__}'
            for key, cls in registry.module_dict.items()
            if cls.__module__.startswith(('mmengine.', 'mmmotionmae.'))
        }
        for module in (mmengine.registry, mmaction.registry)
        for name, registry in vars(module).items()
        if isinstance(registry, Registry)
    }


def test_registries_find_what_nobody_has_imported():
    """In a new process, what is registered here, where all is imported."""
    wanted = {name: found for name, found in registered().items() if found}
    assert sum('mmmotionmae' in str(x) for x in wanted.values()) == 11
    code = """
        import importlib, json, sys
        import mmmotionmae
        import mmengine.registry, mmaction.registry
        from mmengine.registry import DefaultScope, Registry
        assert 'mmmotionmae.models' not in sys.modules
        assert 'mmengine.runner' not in sys.modules

        def find(registry, key):
            cls = registry.get(key)
            return f'{cls.__module__}.{cls.__qualname__}'

        below = Registry(
            'below', parent=mmaction.registry.MODELS, scope='below'
        )
        found = dict(below=find(below, 'MotionMAE'))
        for name, keys in json.loads(sys.argv[1]).items():
            module, _, name_of = name.rpartition('.')
            registry = getattr(importlib.import_module(module), name_of)
            found[name] = {key: find(registry, key) for key in keys}
        found['scope'] = find(mmengine.registry.HOOKS, 'mmaction.ResumeHook')
        DefaultScope.get_instance('test', scope_name='mmaction')
        config = dict(type='GradientBalance', names=['pixel'])
        loss = mmengine.registry.MODELS.build(config)
        found['default scope'] = type(loss).__qualname__
        print(json.dumps(found))
    """
    names = {name: list(found) for name, found in wanted.items()}
    found = run_python(code, json.dumps(names))
    assert found.pop('below') == 'mmmotionmae.models.motionmae.MotionMAE'
    assert found.pop('scope').endswith('.resume_hook.ResumeHook')
    assert found.pop('default scope') == 'GradientBalance'
    assert found == wanted


def test_config_finds_everything_after_its_custom_imports(tmp_path):
    """With each kind of lookup first, in processes of their own."""
    code = """
        import json, sys
        from mmengine.config import Config
        from mmaction import registry
        loops = registry.LOOPS.get('EpochBasedTrainLoop')  # asked before
        config = 'custom_imports = dict(imports=["mmmotionmae"])'
        open('config.py', 'w').write(config)
        Config.fromfile('config.py')
        found = [
            registry.LOOPS.get('ResumableEpochLoop'),
            registry.TRANSFORMS.get('TubeMasking'),
            registry.METRICS.get('DAVISMetric'),
        ]
        print(json.dumps([cls.__name__ for cls in found]))
    """
    names = ['ResumableEpochLoop', 'TubeMasking', 'DAVISMetric']
    assert run_python(code, folder=tmp_path) == names


def test_rooms_are_attributes_of_the_package():
    code = """
        import json
        import mmmotionmae
        found = [mmmotionmae.models.MotionMAE, mmmotionmae.engine.ResumeHook]
        print(json.dumps([cls.__name__ for cls in found]))
    """
    assert run_python(code) == ['MotionMAE', 'ResumeHook']
    with pytest.raises(AttributeError, match='no attribute .model.'):
        _ = mmmotionmae.model


@pytest.mark.parametrize('package', [checkpoints, compat])
def test_names_of_lazy_packages_are_there(package):
    """Those that type checkers see, and no others, come from where they say.

    ``if TYPE_CHECKING`` says it to type checkers, a table to Python.
    """
    tree = ast.parse(Path(package.__file__).read_text(encoding='utf-8'))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    for node in block.body:
        module = importlib.import_module(f'{package.__name__}.{node.module}')
        for alias in node.names:
            assert alias.name in package.__all__
            assert getattr(package, alias.name) is getattr(module, alias.name)
    assert all(hasattr(package, name) for name in package.__all__)


# ----------------------------------------------------------------- patches


@pytest.mark.parametrize('package', [checkpoints, compat])
def test_every_patch_waits_for_something(package):
    named = [function for _, function in package.PATCHES]
    for function in named:
        module, _, name = function.rpartition('.')
        full = importlib.import_module(f'{package.__name__}.{module}')
        assert callable(getattr(full, name))
    folder = Path(package.__file__).parent
    patches = {
        f'{path.stem}.{node.name}'
        for path in folder.glob('*.py')
        for node in ast.parse(path.read_text(encoding='utf-8')).body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(d) == 'once' for d in node.decorator_list)
    }
    assert len(patches) > 6 and patches <= set(named)


def test_names_of_numpy_wait_for_those_who_use_them():
    waited = {
        module
        for module, function in compat.PATCHES
        if function.startswith('numpy_names.')
    }
    assert waited == set(numpy_names._USERS)


# Entry points, each of which may be the first that somebody imports.
FIRST = {
    'torch': 'torch',
    'mmengine.infer': 'mmengine.infer',
    'mmengine.hub': 'mmengine.hub',
    'mmengine._strategy': 'mmengine._strategy',
    'mmaction.apis': 'mmaction.apis',
}
FROM_RUNNER = [
    'mmengine.runner.runner.Runner.load_or_resume',
    'mmengine.runner.runner.Runner.load_checkpoint',
    'mmengine.runner.runner.Runner.wrap_model',
    'mmengine.runner.runner.Runner.build_dataloader',
    'mmengine.runner.runner._load_checkpoint_to_model',
    'mmengine.runner.runner.find_latest_checkpoint',
    'mmengine.runner.runner.save_checkpoint',
    'mmengine.runner.save_checkpoint',
    'mmengine.runner._flexible_runner.FlexibleRunner.load_or_resume',
    'mmengine.runner._flexible_runner.find_latest_checkpoint',
    'mmengine.runner.checkpoint.CheckpointLoader.load_checkpoint',
    'mmengine.runner.checkpoint._load_checkpoint_to_model',
    'mmengine.runner.checkpoint.load_url',
    'mmengine.runner.checkpoint.save_checkpoint',
    'mmengine._strategy.base.BaseStrategy.load_checkpoint',
    'mmengine._strategy.deepspeed.DeepSpeedStrategy.save_checkpoint',
    'mmengine._strategy.deepspeed.DeepSpeedStrategy.load_checkpoint',
    'mmengine._strategy.deepspeed.save_checkpoint',
    'mmengine.hooks.checkpoint_hook.CheckpointHook.before_train',
    'mmengine.hooks.CheckpointHook._save_checkpoint_with_step',
    'mmengine.model.weight_init.PretrainedInit.__call__',
    'mmengine.optim.AmpOptimWrapper.__init__',
    'mmengine.utils.dl_utils.hub.load_url',
    'mmengine.fileio.handlers.pickle_handler.PickleHandler.load_from_fileobj',
    'mmengine.fileio.handlers.yaml_handler.YamlHandler.load_from_fileobj',
    'mmengine.fileio.LocalBackend.put',
    'mmengine.dataset.DefaultSampler.__iter__',
    'torch.load',
    'torch.serialization.load',
]
PATCHED = {
    'torch': ['torch.load', 'torch.serialization.load'],
    'mmengine.infer': [
        *FROM_RUNNER,
        'mmengine.infer.infer.BaseInferencer.__init__',
        'mmengine.infer.infer.BaseInferencer._init_model',
        'mmengine.infer.infer._load_checkpoint_to_model',
    ],
    'mmengine.hub': FROM_RUNNER,
    'mmengine._strategy': FROM_RUNNER,
    'mmaction.apis': [
        *FROM_RUNNER,
        'mmaction.models.backbones.vit_mae.VisionTransformer.__init__',
        'mmaction.models.heads.base.BaseHead.loss_by_feat',
        'mmaction.models.data_preprocessors.ActionDataPreprocessor.cast_data',
        'mmaction.visualization.ActionVisualizer.add_datasample',
    ],
}


# Those that import the most are like `mmengine._strategy`, and slow.
LIKE_OTHERS = ('mmengine.infer', 'mmengine.hub', 'mmaction.apis')


@pytest.mark.parametrize(
    'first',
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in LIKE_OTHERS))
        for name in FIRST
    ],
)
def test_patches_are_made_whoever_is_imported_first(first):
    """And when the module is imported, whoever else it imports."""
    code = """
        import importlib, json, pkgutil, sys
        import mmmotionmae
        importlib.import_module(sys.argv[1])

        def is_ours(name):
            value = pkgutil.resolve_name(name)
            code = getattr(value, '__code__', None)
            return bool(code) and 'mmmotionmae' in code.co_filename

        late = [n for n in json.loads(sys.argv[2]) if not is_ours(n)]
        print(json.dumps(late))
    """
    assert run_python(code, FIRST[first], json.dumps(PATCHED[first])) == []


# ------------------------------------------------------------- after_import


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``waited`` with ``inner``, which it imports."""
    folder = tmp_path / 'waited'
    folder.mkdir()
    (folder / '__init__.py').write_text('from . import inner\nx = 1\n')
    (folder / 'inner.py').write_text('value = 3\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(imports, '_waiting', {})
    monkeypatch.setattr(sys, 'meta_path', [*sys.meta_path])
    yield folder
    for name in ('waited', 'waited.inner'):
        sys.modules.pop(name, None)


def test_actions_run_in_order_once_the_module_is_complete(package):
    seen = []

    def note(name):
        seen.append((name, hasattr(sys.modules.get('waited'), 'x')))

    imports.after_import('waited.inner', lambda: note('inner'))
    imports.after_import('waited', lambda: note('first'))
    imports.after_import('waited', lambda: note('second'))
    assert seen == []
    module = importlib.import_module('waited')
    assert seen == [('inner', False), ('first', True), ('second', True)]
    assert 'exec_module' not in vars(module.__spec__.loader)
    importlib.reload(module)
    assert len(seen) == 3
    imports.after_import('waited', lambda: note('later'))
    assert seen[3:] == [('later', True)]


def test_looking_for_a_module_is_not_importing_it(package):
    seen = []
    imports.after_import('waited', lambda: seen.append(1))
    assert importlib.util.find_spec('waited') is not None
    assert seen == []
    importlib.import_module('waited')
    assert seen == [1]


def test_a_module_that_fails_is_waited_for_again(package):
    seen = []
    imports.after_import('waited', lambda: seen.append(1))
    text = (package / '__init__.py').read_text()
    (package / '__init__.py').write_text('raise RuntimeError("not yet")\n')
    with pytest.raises(RuntimeError, match='not yet'):
        importlib.import_module('waited')
    assert seen == []
    (package / '__init__.py').write_text(text + '# of another length\n')
    importlib.import_module('waited')
    assert seen == [1]


def test_a_module_that_is_not_there_stays_missing(package):
    imports.after_import('waited.missing', lambda: None)
    with pytest.raises(ModuleNotFoundError, match='waited.missing'):
        importlib.import_module('waited.missing')


# ------------------------------------------------------------------- tools


def test_help_of_a_tool_waits_for_nobody():
    """Of all tools in one process, which would keep what one imports."""
    assert len(TOOLS) >= 23
    code = """
        import contextlib, io, json, os, runpy, sys
        found, path = {}, list(sys.path)
        for tool in sys.argv[1:]:
            sys.argv, sys.path[:] = [tool, '--help'], path
            sys.path.insert(0, os.path.dirname(tool))
            text = io.StringIO()
            try:
                with contextlib.redirect_stdout(text):
                    runpy.run_path(tool, run_name='__main__')
                code = None
            except SystemExit as end:
                code = end.code
            heavy = {'torch', 'mmengine', 'mmaction', 'mmcv', 'av'}
            own = tool == 'tools/dev/zoo_tables.py'
            loaded = set() if own else heavy & set(sys.modules)
            found[tool] = [code, text.getvalue()[:6], sorted(loaded)]
        print(json.dumps(found))
    """
    # It is MMEngine's files that it reads; nobody else may.
    last = Path('tools/dev/zoo_tables.py')
    tools = [*(str(t) for t in TOOLS if t != last), str(last)]
    expected = {tool: [0, 'usage:', []] for tool in tools}
    assert run_python(code, *tools) == expected


def test_choices_are_those_there_are():
    assert tuple(READERS) == choices.DECODERS
    assert tuple(FORMATS) == choices.FORMAT_NAMES


def import_each(names):
    """Those that cannot be the first to be imported, and why.

    Each in a fork of a process that has imported nothing.
    """
    code = """
        import importlib, json, os, sys, traceback
        failed = {}
        for name in sys.argv[1:]:
            read, write = os.pipe()
            if not os.fork():
                try:
                    module, _, attribute = name.partition(':')
                    module = importlib.import_module(module)
                    if attribute:
                        getattr(module, attribute)
                    import mmmotionmae, torch, mmengine.fileio
                    for value in (
                        torch.load,
                        mmengine.fileio.PickleHandler.load_from_fileobj,
                        mmengine.fileio.LocalBackend.put,
                    ):
                        assert 'mmmotionmae' in value.__code__.co_filename
                except BaseException:
                    os.write(write, traceback.format_exc()[-600:].encode())
                os._exit(0)
            os.close(write)
            error = os.fdopen(read).read()
            os.wait()
            if error:
                failed[name] = error
        print(json.dumps(failed))
    """
    return run_python(code, *names)


def test_patches_themselves_may_be_imported_first():
    names = ('checkpoints:trust_checkpoints', 'compat:to_plain', 'utils.files')
    assert import_each(f'mmmotionmae.{name}' for name in names) == {}


@pytest.mark.slow
def test_any_module_may_be_imported_first():
    package = Path(mmmotionmae.__file__).parent
    names = [
        '.'.join(path.relative_to(package.parent).with_suffix('').parts)
        for room in ('compat', 'utils', 'checkpoints')
        for path in sorted((package / room).rglob('*.py'))
    ]
    assert len(names) > 50
    assert import_each(names) == {}
