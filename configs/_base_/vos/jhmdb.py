"""JHMDB split 1, joints, by label propagation as SiamMAE and CropMAE do it.

Data: data/jhmdb; see tools/data/jhmdb/README.md.
Frames are 320x320; each joint is a Gaussian of half a patch.
"""

_base_ = ['./crw.py']

model = dict(codec=dict(type='KeypointCodec', sigma=0.5))
test_dataloader = dict(
    dataset=dict(
        type='JHMDBDataset',
        data_root='data/jhmdb',
        pipeline=[
            dict(type='LoadSequence', size=(320, 320)),
            dict(type='PackSequence', meta_keys=['keypoints']),
        ],
    )
)
test_evaluator = dict(type='PCKMetric')
