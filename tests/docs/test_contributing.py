# Copyright (c) MotionMAE contributors. All rights reserved.
"""CONTRIBUTING.md and CITATION.cff say what is so."""

import configparser
import re

import yaml
from conftest import ROOT

import mmmotionmae

TEXT = (ROOT / 'CONTRIBUTING.md').read_text()


def test_where_to_add_things():
    table = TEXT.split('## Where do I add')[1]
    rows = [line for line in table.splitlines() if line.startswith('| ')][1:]
    kinds = [row.split('|')[1].strip() for row in rows]
    for kind in ('target', 'encoder', 'reader of videos', 'hook'):
        assert kind in kinds
    assert 'format of checkpoints' in kinds
    assert 'data set of sequences' in kinds
    for row in rows:
        _, _, place, guard, _ = row.split('|')
        for cell, start in ((place, ''), (guard, 'tests/')):
            paths = [p for p in re.findall(r'`([^`]+)`', cell) if '/' in p]
            if start:
                assert paths and paths[0].startswith(start), row
            for path in paths:
                assert (ROOT / path).exists(), path


def test_citation():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    assert citation['version'] == mmmotionmae.__version__
    assert citation['license'] == setup['metadata']['license']
    # What version 1.2.0 of the format requires.
    assert citation['cff-version'] == '1.2.0'
    for key in ('message', 'title', 'authors'):
        assert citation[key]
    (paper,) = citation['references']
    assert paper['type'] == 'conference-paper' and paper['year'] == 2024
    assert paper['authors'][0]['family-names'] == 'Yang'
    (identifier,) = paper['identifiers']
    number = identifier['value'].removeprefix('arXiv:')
    assert number == '2210.04154' and number in paper['url']
    assert number in (ROOT / 'README.md').read_text()
