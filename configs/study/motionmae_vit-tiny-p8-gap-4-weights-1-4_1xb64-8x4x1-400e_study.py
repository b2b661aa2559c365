"""MotionMAE pre-training of the study, motion of four frames weighted by 4.

The arm `gap-4-weights-1-4` of `tools/study.py`, the best of those that
reconstruct pixels. See docs/study.

Result: docs/study/README.md.
Hardware and time: one CPU core, 4,000 steps in some 15 minutes.
Command: STUDY_DATA=DIR python tools/train.py THIS_FILE
"""

_base_ = ['./motionmae_vit-tiny-p8_1xb64-8x4x1-400e_study.py']

model = dict(
    data_preprocessor=dict(frame_difference=dict(gap=4)),
    head=dict(motion_weight=4.0),
)
