# Copyright (c) MotionMAE contributors. All rights reserved.
"""Sphinx configuration of the documentation site: `make docs`."""

import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent.resolve()
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from mmmotionmae.version import __version__  # noqa: E402

project = 'mmmotionmae'
author = 'MotionMAE contributors'
copyright = author  # noqa: A001
release = version = __version__

extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]
html_theme = 'furo'
html_title = 'mmmotionmae'
html_static_path = ['_static']
html_css_files = ['wide_tables.css']
html_show_sourcelink = False
exclude_patterns = ['_build', '**.ipynb_checkpoints']

# Notebooks hold their outputs; a test runs them.
nb_execution_mode = 'off'
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
suppress_warnings = ['myst.header']

autodoc_default_options = {
    'members': True,
    'imported-members': True,
    'show-inheritance': True,
}
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
copybutton_exclude = '.linenos, .gp, .go'

# Pages that live beside what they describe: page of the site, file.
PAGES = {
    **{
        f'generated/zoo/{path.parent.name}': path
        for path in sorted(ROOT.glob('configs/*/README.md'))
    },
    **{
        f'generated/data_sets/{path.parent.name}': path
        for path in sorted(ROOT.glob('tools/data/*/README.md'))
    },
    'generated/data_sets/index': ROOT / 'tools/data/README.md',
    'generated/analysis': ROOT / 'tools/analysis/README.md',
    'generated/contributing': ROOT / 'CONTRIBUTING.md',
    'generated/changelog': ROOT / 'CHANGELOG.md',
}
PAGE_OF = {path: page for page, path in PAGES.items()} | {
    ROOT / 'README.md': 'index'
}
# Pages, and those that stand below them.
BELOW = {
    'benchmarks/README': '*',
    'generated/data_sets/index': '*',
    'notebooks/README': '*',
    'zoo/index': '/generated/zoo/*',
}


def relink(text: str, source: Path, page: str) -> str:
    """Links of a Markdown file, seen from its page of the site.

    Args:
        text: The file.
        source: Where it is.
        page: Where it will be, relative to the site and without suffix.

    Returns:
        The file with links to other pages of the site as such. Folders are
        named, but not linked; other files can be downloaded.
    """
    here = (DOCS / page).parent

    def link(found: re.Match[str]) -> str:
        target, hash_, anchor = found['target'].partition('#')
        if not target or '://' in target or target.startswith('mailto:'):
            return found[0]
        path = Path(os.path.normpath(source.parent / target))
        if path.is_dir() and (path / 'README.md') in PAGE_OF:
            path /= 'README.md'
        if path in PAGE_OF:
            path = DOCS / f'{PAGE_OF[path]}.md'
        elif path.is_dir():
            return f'{found["before"]}{found["text"]}'
        return (
            f'{found["before"]}[{found["text"]}]'
            f'({os.path.relpath(path, here)}{hash_}{anchor})'
        )

    return re.sub(
        r'(?P<before>!?)\[(?P<text>[^][]*)\]\((?P<target>[^()\s]+)\)',
        link,
        text,
    )


def write_pages(app: Sphinx) -> None:
    """Bring the pages that live elsewhere, those of the zoo among them."""
    for page, source in PAGES.items():
        path = DOCS / f'{page}.md'
        text = relink(source.read_text(), source, page)
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def complete_page(app: Sphinx, page: str, content: list[str]) -> None:
    """Mend links that leave this folder; add titles and what stands below."""
    source = DOCS / f'{page}.md'
    if not source.exists():
        return  # a notebook
    if page not in PAGES:
        content[0] = relink(content[0], source, page)
    if not re.search('^# ', content[0], flags=re.M):  # a table of a benchmark
        content[0] = f'# {source.stem.replace("_", " ")}\n\n{content[0]}'
    if page in BELOW:
        content[0] += (
            f'\n```{{toctree}}\n:hidden:\n:glob:\n\n{BELOW[page]}\n```\n'
        )


def setup(app: Sphinx) -> None:
    """Connect both to the build."""
    app.connect('builder-inited', write_pages)
    app.connect('source-read', complete_page)
