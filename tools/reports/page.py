# Copyright (c) MotionMAE contributors. All rights reserved.
"""HTML files that hold everything they show."""

from pathlib import Path

import jinja2

from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.files import complete_file

BASE = Path(__file__).parent
GENERATOR = '<meta name="generator" content="mmmotionmae report">'


def write_page(path: Path, template: Path, **content: object) -> None:
    """Render a page; it appears under its name only when complete.

    Args:
        path: The file, replaced if it exists.
        template: Extends ``page.html.jinja``.
        **content: What it shows, ``title``, ``lead`` and ``versions`` among
            it; ``refresh`` are the seconds until it is loaded anew.
    """
    loader = jinja2.FileSystemLoader([BASE, template.parent])
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template.name)
    text = page.render(dict(refresh=None) | content)
    with complete_file(path) as temporary:
        temporary.write_text(text.lstrip(), 'utf-8')


def check_page(path: Path) -> None:
    """Make sure that nothing but an earlier report is replaced.

    Raises:
        UsageError: If there is a file of another kind, or a folder.
    """
    if not path.exists():
        return
    if path.is_file() and GENERATOR in path.read_text('utf-8', 'replace'):
        return
    raise UsageError(
        f'{path} exists and is no report of this tool; choose another name '
        '(--out).'
    )
