"""VIP val, parts of persons, by label propagation as SiamMAE and CropMAE do it.

Data: data/vip; see tools/data/vip/README.md.
The long side of a frame becomes 880 pixels, the other is rounded down to a
multiple of 64; 10 neighbours.
"""

_base_ = ['./crw.py']

model = dict(
    topk=10,
    codec=dict(
        type='SegmentationCodec',
        downsample='bilinear',
        min_max=False,
        argmax_size='img',
        nearest='pillow',
        first_frame='decoded',  # it counts
    ),
)
test_dataloader = dict(
    dataset=dict(
        type='VIPDataset',
        data_root='data/vip',
        pipeline=[
            dict(type='LoadSequence', size=880, side='long', divisor=64),
            dict(type='LoadMasks'),
            dict(type='PackSequence'),
        ],
    )
)
test_evaluator = dict(type='VIPMetric')
