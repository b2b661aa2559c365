"""Tests over sequences: hooks and loader that all of them share.

Results go to WORK_DIR/results. A test that was interrupted goes on with the
sequence that it was at; --overwrite starts anew. --show-dir DIR draws overlays.
"""

_base_ = ['../default_runtime.py']

default_hooks = dict(
    results=dict(type='SequenceResultsHook'),
    visualization=dict(type='SequenceVisualizationHook'),
)
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=1,  # one sequence
    # A sequence of 100 frames takes 120 MB: each worker holds one in advance.
    num_workers=2,
    prefetch_factor=1,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='pseudo_collate'),
)
