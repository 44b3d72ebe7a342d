"""Training a supernet by two-stage distillation, resumable to the bit.

recipe.py     settings of a training and of a stage: one source of defaults (imports no torch)
losses.py     masking, losses, and which subnets a step trains
batches.py    recordings and their targets, in batches
step.py       one update
stage.py      one stage: steps, validations, checkpoints
distil.py     both stages, from a manifest to a finished supernet
processes.py  several processes as one
state.py      the checkpoint that a training resumes from
"""

__all__: list[str] = []
