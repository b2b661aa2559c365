"""DAVIS-2017 val by label propagation as DINO does it.

Data: data/davis2017; see tools/data/davis2017/README.md. Another place:
--cfg-options test_dataloader.dataset.data_root=DIR

All numbers are those of facebookresearch/dino, eval_video_segmentation.py:
short side 480, long side rounded down to a multiple of 64; 5 neighbours in
the first frame and the 7 before, at most 12 patches away; temperature 0.1.
Its standard deviation of red, 0.228, is a misprint for 0.229 that everybody
has copied.
"""

_base_ = ['./runtime.py']

model = dict(
    type='LabelPropagation',
    data_preprocessor=dict(
        type='SequenceDataPreprocessor',
        mean=[0.485 * 255, 0.456 * 255, 0.406 * 255],
        std=[0.228 * 255, 0.224 * 255, 0.225 * 255],
    ),
    topk=5,
    temperature=0.1,
    radius=12,
    window='square',
    first_local=True,
    num_context=7,
    pad_context=False,
    keep_ties=True,
    codec=dict(
        type='SegmentationCodec',
        downsample='nearest',
        min_max=True,
        argmax_size='img',
        nearest='pillow',
        first_frame='given',
    ),
)
test_dataloader = dict(
    dataset=dict(
        type='DAVISDataset',
        data_root='data/davis2017',
        split='val',
        pipeline=[
            dict(type='LoadSequence', size=480, side='short', divisor=64),
            dict(type='LoadMasks'),
            dict(type='PackSequence'),
        ],
    )
)
test_evaluator = dict(type='DAVISMetric')
