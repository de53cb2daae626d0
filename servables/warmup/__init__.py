"""Warm-up: what a version is asked before it is available, so that no client waits for what only a first run does.

warmup_records   assets.extra/tf_serving_warmup_requests -> the calls to make, read as a frontend reads requests
batch_sizes      calls that fill each allowed batch
warmup           makes them, through the version's own runner
warmup_file      makes such a file of logged requests: `python -m servables.warmup.warmup_file`
"""
