# Copyright (c) MotionMAE contributors. All rights reserved.
"""The notebooks run, and show what their code shows."""

import base64
import io
import json
import re

import notebooks
import numpy as np
import pytest
from conftest import ROOT
from helpers.typed_commands import bash_blocks
from PIL import Image
from test_readme import check_script

from mmmotionmae.utils.video_files import write_video

FOLDER = ROOT / 'docs/notebooks'
PATHS = {path.stem: path for path in sorted(FOLDER.glob('*.ipynb'))}
# Seconds instead of minutes.
FEW = {
    'videos_to_classifier': dict(
        NUM_VIDEOS=80,
        LABELS_PER_CLASS=4,
        EPOCHS=3,
        FINETUNE_EPOCHS=3,
        SEEDS=(0,),
    ),
    'your_own_target': dict(NUM_VIDEOS=32, EPOCHS=3),
}
NUMBER = re.compile(r'-?\d+(?:\.\d+)?(?:, -?\d+\.\d+)*')


def texts_of(outputs):
    return [''.join(out['text']) for out in outputs if 'text' in out]


def shape_of(outputs):
    """Kinds of the outputs, and what is printed but for the numbers."""
    texts = [NUMBER.sub('#', text) for text in texts_of(outputs)]
    # Columns of numbers are padded.
    return (
        [output['output_type'] for output in outputs],
        [re.sub(' +', ' ', text) for text in texts],
    )


def stored(path):
    cells = notebooks.code_cells(notebooks.read(path))
    return {cell['id']: cell['outputs'] for cell in cells}


def run(path, parameters, monkeypatch, folder):
    """The outputs of each cell by its name."""
    monkeypatch.chdir(folder)
    notebook = notebooks.read(path)
    cells = notebooks.code_cells(notebook)
    outputs = notebooks.run(notebook, parameters)
    return {cell['id']: x for cell, x in zip(cells, outputs, strict=True)}


def test_all_have_few():
    assert PATHS.keys() == FEW.keys()


@pytest.mark.parametrize('name', PATHS)
def test_runs(name, monkeypatch, tmp_path, capsys):
    found = run(PATHS[name], FEW[name], monkeypatch, tmp_path)
    assert capsys.readouterr() == ('', '')  # no log, no progress bar
    kept = stored(PATHS[name])
    assert found.keys() == kept.keys()
    for cell, outputs in found.items():
        # Of another number of videos; what is imported already says nothing.
        if cell not in ('videos', 'lists', 'imports'):
            assert shape_of(outputs) == shape_of(kept[cell]), cell
        if cell in ('check', 'encoder'):  # there is but one result
            assert texts_of(outputs) == texts_of(kept[cell])


def test_folder_of_ones_own(monkeypatch, tmp_path):
    """Videos of another size, of other classes, are made to fit."""
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / f'own/{("sit", "stand")[i % 2]}/{i}.mp4'
        frames = rng.integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
        write_video(path, frames, 12, 30)
    few = dict(
        FEW['videos_to_classifier'],
        VIDEOS='own',
        FRAME_INTERVAL=2,
        LABELS_PER_CLASS=16,
    )
    path = PATHS['videos_to_classifier']
    found = run(path, few, monkeypatch, tmp_path)
    assert texts_of(found['videos']) == ['sit: 20 videos\nstand: 20 videos\n']
    (text,) = texts_of(found['finetune'])
    assert text.startswith('top-1 (%) on 8 test videos, chance 50.0\n')
    assert len(accuracies(found)) == 3


@pytest.mark.slow
@pytest.mark.parametrize('name', PATHS)
def test_whole_runs_tell_the_same(name, monkeypatch, tmp_path):
    found = run(PATHS[name], {}, monkeypatch, tmp_path)
    kept = stored(PATHS[name])
    for cell in ('videos', 'lists'):
        if cell in found:
            assert texts_of(found[cell]) == texts_of(kept[cell])
    CLAIMS[name](found)


def accuracies(outputs):
    rows = re.findall(
        r'^(\S.*?) {2,}.* mean ([\d.]+)$',
        ''.join(texts_of(outputs['finetune'])),
        flags=re.M,
    )
    return {name: float(mean) for name, mean in rows}


def classifier_claims(outputs):
    means = accuracies(outputs)
    assert means.keys() == {
        'from scratch',
        'pre-trained here',
        'shipped weights',
    }
    assert means['pre-trained here'] > means['from scratch'] + 20


def target_claims(outputs):
    (table,) = texts_of(outputs['oracle'])
    rows = {
        words[0]: [float(word) for word in words[1:]]
        for words in map(str.split, table.splitlines()[1:])
    }
    assert rows.keys() == {
        'pixel',
        'acceleration',
        'acceleration_changing',
    }
    for network, interpolation in rows.values():
        assert network > interpolation


CLAIMS = dict(
    videos_to_classifier=classifier_claims, your_own_target=target_claims
)


@pytest.mark.parametrize('name', PATHS)
def test_stored_outputs(name):
    """Of the code as it is, small, and as the text claims."""
    path = PATHS[name]
    notebook = notebooks.read(path)
    assert notebook['metadata']['code_sha256'] == notebooks.digest(notebook), (
        f'python tools/dev/notebooks.py {path.relative_to(ROOT)}'
    )
    text = path.read_text('utf-8')
    assert len(text.encode()) < 300_000
    assert str(ROOT) not in text and '/home' not in text
    cells = notebooks.code_cells(notebook)
    counts = [cell['execution_count'] for cell in cells]
    assert counts == list(range(1, len(cells) + 1))
    assert len({cell['id'] for cell in notebook['cells']}) == len(
        notebook['cells']
    )
    CLAIMS[name](stored(path))


@pytest.mark.parametrize('name', PATHS)
def test_commands(name):
    for cell in notebooks.read(PATHS[name])['cells']:
        if cell['cell_type'] == 'markdown':
            for block in bash_blocks(f'{notebooks.source(cell)}\n'):
                check_script(block)


def test_target_has_forty_lines():
    cells = notebooks.read(PATHS['your_own_target'])['cells']
    (cell,) = (cell for cell in cells if cell['id'] == 'target')
    assert len(cell['source']) <= 40


def small_notebook(*sources):
    return dict(
        cells=[
            dict(
                cell_type='code',
                metadata=dict(tags=['parameters'] * (i == 0)),
                source=text.splitlines(keepends=True),
            )
            for i, text in enumerate(sources)
        ],
        metadata={},
    )


def test_outputs_are_taken():
    notebook = small_notebook(
        'N = 2',
        'import matplotlib.pyplot as plt\n'
        'print("a", N)\nprint("b")\n'
        'plt.figure(figsize=(2, 1))\nplt.plot([0, N])\nplt.show()\n'
        'print("c")',
        'x = plt.plot([1, 2])',  # shown when the cell ends
    )
    first, second, third = notebooks.run(notebook, dict(N=5))
    assert first == []
    assert [out['output_type'] for out in second] == [
        'stream',
        'display_data',
        'stream',
    ]
    assert second[0]['text'] == ['a 5\n', 'b\n']
    assert second[2]['text'] == ['c\n']
    (shown,) = third
    for picture in (second[1], shown):
        data = base64.b64decode(picture['data']['image/png'])
        image = Image.open(io.BytesIO(data))
        assert image.format == 'PNG' and image.mode == 'P'
        assert len(image.getcolors()) <= notebooks.COLORS


def test_values_that_jupyter_would_show_are_refused():
    with pytest.raises(ValueError, match='cell 2 ends in a value'):
        list(notebooks.run(small_notebook('N = 1', 'N + 1')))
    list(notebooks.run(small_notebook('N = 1', 'print(N)')))
    with pytest.raises(ValueError, match="no \\['M'\\]"):
        list(notebooks.run(small_notebook('N = 1'), dict(M=1)))


def test_refresh(tmp_path, capsys):
    path = tmp_path / 'x.ipynb'
    notebook = small_notebook('N = 1', 'print(N)\nopen("here", "w").close()')
    path.write_text(json.dumps(notebook))
    assert notebooks.main([str(path)]) == 0
    done = notebooks.read(path)
    assert [cell['execution_count'] for cell in done['cells']] == [1, 2]
    assert texts_of(done['cells'][1]['outputs']) == ['1\n']
    assert done['metadata']['code_sha256'] == notebooks.digest(notebook)
    assert [p.name for p in tmp_path.iterdir()] == ['x.ipynb']
    # Another layout is the same code, another number is not.
    assert notebooks.digest(small_notebook('N  = 1')) == notebooks.digest(
        small_notebook('N = 1')
    )
    assert notebooks.digest(small_notebook('N = 2')) != notebooks.digest(
        small_notebook('N = 1')
    )
    assert capsys.readouterr().out.startswith(str(path))
