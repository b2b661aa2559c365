"""Label propagation as CRW (ajabri/videowalk) does it, for any labels.

The first frame may be matched everywhere, the 20 before within a circle of 20
patches; before the 20th frame the first stands in for those that are missing.
Temperature 0.7 and 7 neighbours are CropMAE's, for itself and SiamMAE
(alexandre-eymael/CropMAE, downstreams/propagation/util.py).
"""

_base_ = ['./runtime.py']

model = dict(
    type='LabelPropagation',
    topk=7,
    temperature=0.7,
    radius=20,
    window='circle',
    first_local=False,
    num_context=20,
    pad_context=True,
    keep_ties=False,
)
