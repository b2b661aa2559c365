# Copyright (c) MotionMAE contributors. All rights reserved.
"""The fast tests on every Python found, each with three sets of versions.

``make matrix ARGS='...'`` hands its arguments to nox: ``-p 3.12`` for one
Python, ``-k lowest`` for one set, ``-- tests/models`` for some tests. Each
cell puts its row into ``docs/get_started/matrix.md``, in the place of its last
one.
"""

import datetime
import json
from pathlib import Path
from xml.etree import ElementTree

import nox

ROOT = Path(__file__).parent
TABLE = ROOT / 'docs/get_started/matrix.md'
HEAD = ('Python', 'versions', 'tests', 'passed', 'failed', 'skipped')
SHOWN = ('numpy', 'torch', 'opencv-python', 'av', 'setuptools')

# Without sources: the lowest version is the lowest that has a wheel for this
# Python, and nothing is compiled.
WHEELS = ('--only-binary', ':all:', '--no-binary', 'mmmotionmae')
VERSIONS = {
    'constraints': ('--constraint', 'constraints.txt'),
    'lowest': ('--resolution', 'lowest-direct', *WHEELS),
    'newest': ('--upgrade', *WHEELS),
}

nox.needs_version = '>=2026.10'
nox.options.default_venv_backend = 'uv'
nox.options.download_python = 'never'
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = 'yes'


@nox.session(python=['3.11', '3.12', '3.13', '3.14'])
@nox.parametrize('versions', list(VERSIONS), ids=list(VERSIONS))
def tests(session: nox.Session, versions: str) -> None:
    """Install one set of versions and run the fast tests, or those named."""
    counts = ['not installed', '', '']
    shown: dict[str, str] = {}
    results = Path(session.create_tmp()) / 'results.xml'
    results.unlink(missing_ok=True)
    try:
        session.install(
            *VERSIONS[versions],
            *('pip', '-e', f'mmmotionmae[tests] @ {ROOT.as_uri()}'),
        )
        shown = _versions(session)
        counts = ['not run to the end', '', ''] if shown else []
        session.run(
            *('python', '-m', 'pytest', '-q', '-m', 'not slow'),
            *('-n', 'logical', '--maxprocesses', '8', '--dist', 'loadfile'),
            *(f'--junit-xml={results}', *session.posargs),
            env={'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
        )
    finally:
        if results.exists():
            counts = _counts(results)
        tested = ' '.join(session.posargs) or 'all fast'
        if counts:  # none of `--install-only`
            _record([str(session.python), versions, tested, *counts], shown)


def _versions(session: nox.Session) -> dict[str, str]:
    """Versions of what matters; OpenCV without libGL becomes headless."""
    found = session.run(
        *('python', '-c'),
        'import json, importlib.metadata as m\n'
        f'print(json.dumps({{n: m.version(n) for n in {SHOWN}}}))\n'
        'try: import cv2\n'
        "except ImportError: print('headless')",
        silent=True,
    )
    if found is None:
        return {}
    first, *headless = str(found).splitlines()
    versions: dict[str, str] = json.loads(first)
    if headless:
        build = f'opencv-contrib-python-headless=={versions["opencv-python"]}'
        session.install('--no-deps', '--reinstall', build)
    return versions


def _counts(results: Path) -> list[str]:
    """Numbers of tests that passed, failed (or had errors), were skipped."""
    (suite,) = ElementTree.parse(results).getroot().iter('testsuite')
    total, *rest = (
        int(suite.attrib[name])
        for name in ('tests', 'failures', 'errors', 'skipped')
    )
    failures, errors, skipped = rest
    counts = (total - sum(rest), failures + errors, skipped)
    return [str(count) for count in counts]


def _record(row: list[str], shown: dict[str, str]) -> None:
    """Put a row into the table, for that of the same cell and tests."""
    stack = ', '.join(f'{name} {shown[name]}' for name in SHOWN if shown)
    row = [*row, stack, datetime.date.today().isoformat()]
    title = [*HEAD, 'with', 'on']
    rows = [row]
    if TABLE.exists():
        lines = TABLE.read_text().splitlines()
        cells = [line.strip('| ').split(' | ') for line in lines]
        old = [cell for cell in cells if len(cell) == len(title)]
        rows += [cell for cell in old[2:] if cell[:3] != row[:3]]
    rows = [title, ['---'] * len(title), *sorted(rows)]
    body = '\n'.join(f'| {" | ".join(cells)} |' for cells in rows)
    head, command = '# What was tested', '`make matrix` writes this table'
    text = f'{head}\n\n{command}, one row for each cell that was run.\n\n'
    temporary = TABLE.with_suffix('.tmp')
    temporary.write_text(f'{text}{body}\n')
    temporary.replace(TABLE)
