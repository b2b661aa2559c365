"""ViT-B on Something-Something V2: histograms of oriented gradients alone.

What MaskFeat (Wei et al., CVPR 2022) predicts, by this encoder and decoder.

Expected result: not run by us. MaskFeat's (75.0 % on this data set, by its
abstract) are of other encoders, MViTv2, which are given mask tokens, too.
Hardware: as in the config that it inherits from.
Time: not measured by us; see tools/analysis/describe.py.
Command:
    GPUS=32 bash tools/slurm_train.sh PARTITION JOB \
        configs/motionmae/THIS_FILE

9 bins, cells of 8x8 pixels and no Gaussian window are those of MaskFeat with
videos (facebookresearch/SlowFast, slowfast/models/masked.py and
configs/masked_ssl/k400_MVITv2_*_MaskFeat_PT.yaml), which takes the first frame
of a tubelet alone: frames='first'. Masking and schedule are those of the
config that it inherits from, not MaskFeat's (ratio 0.4, 300 epochs, gradients
clipped at 0.02).
"""

_base_ = ['./motionmae_vit-base-p16_32xb64-16x2x1-amp-400e_sthv2-rgb.py']

model = dict(
    targets=dict(
        hog=dict(type='HOGTarget', num_bins=9, cell_size=8, frames='all'),
    ),
    head=dict(pixel_weight=0.0, motion_weight=0.0),
)
