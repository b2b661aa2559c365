"""An attentive probe of a frozen ViT-B/16: V-JEPA's head on all tokens.

The encoder keeps the final norm that it was pre-trained with, and gives all
tokens, a feature map.
"""

_base_ = ['./vit-base-p16_linear-probe.py']

model = dict(
    cls_head=dict(type='AttentiveProbeHead', num_heads=12),
)
