"""DAVIS-2017 val by label propagation as SiamMAE and CropMAE do it.

Data: data/davis2017; see tools/data/davis2017/README.md. Another place:
--cfg-options test_dataloader.dataset.data_root=DIR

Frames are 480x880 for the encoder. The published numbers are also scored at
that size, on masks resized beforehand, where boundaries may be 9 pixels
apart, not 8. Here masks are scored as they are, as the official program does;
--cfg-options test_evaluator.resize="(480,880)" does it the other way.
"""

_base_ = ['./crw.py']

model = dict(
    codec=dict(
        type='SegmentationCodec',
        downsample='bilinear',
        min_max=False,
        argmax_size='img',
        nearest='opencv',
        first_frame='decoded',
    )
)
test_dataloader = dict(
    dataset=dict(
        type='DAVISDataset',
        data_root='data/davis2017',
        split='val',
        pipeline=[
            dict(type='LoadSequence', size=(480, 880)),
            dict(type='LoadMasks'),
            dict(type='PackSequence'),
        ],
    )
)
test_evaluator = dict(type='DAVISMetric')
