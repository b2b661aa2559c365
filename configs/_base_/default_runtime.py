"""Runtime that every config here starts from."""

default_scope = 'mmaction'
custom_imports = dict(imports=['mmmotionmae'], allow_failed_imports=False)

default_hooks = dict(
    runtime_info=dict(type='DeferredRuntimeInfoHook'),
    check_finite=dict(type='CheckFiniteHook'),
    average_logs=dict(type='AverageLogsHook'),
    timer=dict(type='IterTimerHook'),
    loader_wait=dict(type='LoaderWaitHook'),
    logger=dict(type='LoggerHook', interval=20, ignore_last=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # MMEngine removes an old checkpoint before it writes the new one, so one
    # alone would not be safe.
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    timed_checkpoint=dict(type='TimedCheckpointHook', minutes=30),
    preemption=dict(type='PreemptionHook'),
    resume=dict(type='ResumeHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    seed=dict(type='SeedIterHook'),
    bad_videos=dict(type='BadVideosHook'),
    sync_buffers=dict(type='SyncBuffersHook'),
    export_backbone=dict(type='ExportBackboneHook'),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # Seconds that a process waits for the others: one that hangs ends the run.
    # Longer than the main process takes to write a checkpoint.
    dist_cfg=dict(backend='nccl', timeout=600),
)

log_processor = dict(type='LogProcessor', window_size=20, by_epoch=True)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='ActionVisualizer', vis_backends=vis_backends)
log_level = 'INFO'
load_from = None
resume = False
# With --resume: whose learning rate, weight decay, ...: 'checkpoint', 'config'.
resume_optimizer = 'checkpoint'
randomness = dict(seed=0)
