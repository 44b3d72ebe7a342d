"""Training a supernet by two-stage distillation.

recipe.py     TrainSettings (what `nas train` takes) and StageRecipe (one stage); imports no torch
context.py    RunContext: device, progress reports and time limit
batches.py    the manifest's splits; batches with the teacher's standardised targets, read ahead
goal.py       what is predicted: the hidden states of a teacher, or what the network itself gave before
losses.py     the masks, the losses, and the subnets that one step trains
step.py       one update, on one process's share of a batch
stage.py      the loop of one stage: checkpoints, log, validation
distil.py     both stages: from a teacher and a manifest to a supernet
processes.py  several processes as one: torchrun, Ray Train
state.py      the checkpoint file, written whole or not at all

Nothing is imported here, so that `supernet.training.recipe` stays cheap to import.
"""

__all__: list[str] = []
