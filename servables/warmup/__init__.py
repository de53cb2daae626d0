"""Warm-up: what a version is asked before it becomes available, so that its first clients do not wait for what only the first run does.

warmup_records   assets.extra/tf_serving_warmup_requests -> the calls to make, read as a frontend reads requests
batch_sizes      calls that fill each allowed batch
warmup           makes them, through the version's own runner
"""
