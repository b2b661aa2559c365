"""ViT-B on Something-Something V2: frame and difference in one target.

What MAE-DFER (Sun et al., ACM MM 2023) predicts, by this encoder and decoder:
of a tubelet of two frames the first, and the second less the first.

Expected result: not run by us; nobody has published a figure. MAE-DFER is of
faces (VoxCeleb2) and of another encoder.
Hardware: as in the config that it inherits from.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    GPUS=32 bash tools/slurm_train.sh PARTITION JOB \
        configs/motionmae/THIS_FILE

The target is that of --use_frame_diff_as_target without --target_diff_weight
(sunlicai/MAE-DFER, engine_for_pretraining.py). All other numbers are those of
the config that it inherits from.
"""

_base_ = ['./motionmae_vit-base-p16_32xb64-16x2x1-amp-400e_sthv2-rgb.py']

model = dict(
    targets=dict(difference=dict(type='TubeletDifferenceTarget')),
    head=dict(pixel_weight=0.0, motion_weight=0.0),
)
