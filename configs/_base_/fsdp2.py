"""Weights, gradients and optimiser spread over the GPUs, as --fsdp does it."""

runner_type = 'FlexibleRunner'
strategy = dict(type='FSDP2Strategy')
