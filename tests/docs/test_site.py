# Copyright (c) MotionMAE contributors. All rights reserved.
"""The documentation site builds without a warning, and holds every page."""

import re
import runpy
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

pytest.importorskip('myst_nb')
pytest.importorskip('furo')
pytest.importorskip('sphinx_copybutton')


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The site, of a copy of the project: pages are written beside it."""
    project = tmp_path_factory.mktemp('project')
    for name in ('configs', 'mmmotionmae', 'tools', 'tests', 'README.md'):
        (project / name).symlink_to(ROOT / name)
    for name in ('CHANGELOG.md', 'CONTRIBUTING.md'):
        shutil.copy(ROOT / name, project)
    ignored = shutil.ignore_patterns('_build', 'generated')
    shutil.copytree(ROOT / 'docs', project / 'docs', ignore=ignored)
    out = project / 'html'
    command = ['-m', 'sphinx', '--fail-on-warning', '--keep-going', '--quiet']
    done = subprocess.run(
        [sys.executable, *command, '-b', 'html', project / 'docs', out],
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    return out


def test_pages(site):
    text = (site / 'index.html').read_text()
    pages = [
        path.relative_to(ROOT / 'docs').with_suffix('.html')
        for path in (ROOT / 'docs').rglob('*.md')
        if not {'_build', 'generated'} & {*path.parts}
    ]
    for page in pages:
        assert (site / page).is_file()
        # Each can be reached: the sidebar holds all but dated tables.
        if 'benchmarks' not in page.parts and page.name != 'index.html':
            assert f'href="{page}"' in text, page
    families = {path.parent.name for path in ROOT.glob('configs/*/README.md')}
    assert families == {p.stem for p in (site / 'generated/zoo').iterdir()}


def test_links_inside_go_to_pages_of_the_site(site):
    text = (site / 'index.html').read_text()
    assert 'href="generated/contributing.html"' in text
    text = (site / 'generated/zoo/recognition.html').read_text()
    assert 'href="motionmae.html"' in text
    assert re.search(
        r'href="[^"]*_downloads/\w+/[\w.-]+_kinetics400-rgb.py"', text
    )


def test_search_needs_no_network(site):
    """Nothing that a page loads lies elsewhere; the index has our words."""
    for page in ('index.html', 'search.html', 'user_guides/pretrain.html'):
        text = (site / page).read_text()
        assert not re.findall(r'<(?:script|img)[^>]*src="(?:https?:)?//', text)
        assert not re.findall(
            r'<link[^>]*rel="stylesheet"[^>]*href="http', text
        )
    assert 'FrameDifferenceTarget' in (site / 'searchindex.js').read_text()


def test_links_of_a_page():
    relink = runpy.run_path(str(ROOT / 'docs/conf.py'))['relink']
    source = ROOT / 'configs/motionmae/README.md'
    text = (
        '[a](../vos/README.md#b) [c](https://d.org) ![e](../../docs/f.png) '
        '[g](./h.py) [i](#j) [k](../vos) [l](../_base_)'
    )
    assert relink(text, source, 'generated/zoo/motionmae') == (
        '[a](vos.md#b) [c](https://d.org) ![e](../../f.png) '
        '[g](../../../configs/motionmae/h.py) [i](#j) [k](vos.md) l'
    )
