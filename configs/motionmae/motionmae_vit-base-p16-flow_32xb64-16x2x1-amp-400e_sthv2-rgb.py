"""MotionMAE ViT-B on Something-Something V2: pixels and optical flow.

The motion is the optical flow of adjacent frames instead of their difference.
The paper names it as possible, and much dearer.

Expected result: not run by us; nobody has published a figure.
Hardware: as in the config that it inherits from.
Time: not measured by us; as there, if the loader keeps up. The flow of a clip
(15 pairs of 224x224 pixels) takes a CPU core about 25 ms with the preset
'fast', 90 ms with 'medium': num_workers may have to be higher. A clip from the
loader is 2.3 times as large.
Command:
    GPUS=32 bash tools/slurm_train.sh PARTITION JOB \
        configs/motionmae/THIS_FILE

Numbers are those of the config that it inherits from. The flow is normalised
by the statistics of its clip, for those of a tubelet would take away what it
moves as a whole; this, DIS as the method, and the weight 1 are our choice.
"""

_base_ = ['./motionmae_vit-base-p16_32xb64-16x2x1-amp-400e_sthv2-rgb.py']

model = dict(
    targets=dict(
        pixel=dict(type='PixelTarget'),
        flow=dict(type='FlowTarget', norm='clip'),
    ),
    head=dict(motion_weight=0.0),
)

train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='OpticalFlow', method='dis', preset='fast'),
    dict(type='PackActionInputs', algorithm_keys=('mask', 'flow')),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
