"""The tables of what training is made of: one line each. Nothing here loads torch."""

from __future__ import annotations

from vgbench.registry import Registry

# A function of (a Recipe, its own keywords) that returns a TrainingMode.
TRAINING_MODES = Registry(
    "training mode",
    {
        "triplets": "vgbench.training.modes.triplets:from_recipe",
        "places": "vgbench.training.modes.places:from_recipe",
        "classes": "vgbench.training.modes.classes:from_recipe",
        "geowarp": "vgbench.training.modes.geowarp:from_recipe",
        "distill": "vgbench.training.modes.distill:from_recipe",
    },
    positional=1,
)
# A class whose parameters are filled in by their names: any option of training, and its own keywords.
LOSSES = Registry(
    "loss",
    {
        "triplet": "vgbench.training.losses.triplet:TripletLoss",
        "sare_ind": "vgbench.training.losses.sare:SareInd",
        "sare_joint": "vgbench.training.losses.sare:SareJoint",
    },
)
# The same, with the Task and the seed besides.
MINERS = Registry(
    "miner",
    {
        "partial": "vgbench.training.mining.partial:PartialMiner",
        "full": "vgbench.training.mining.full:FullMiner",
        "random": "vgbench.training.mining.random:RandomMiner",
        "msls_weighted": "vgbench.training.mining.msls_weighted:MslsWeightedMiner",
    },
    named=("task", "seed"),
)
# A class made as (dimensions, classes, scale, margin, its own keywords).
MARGIN_LOSSES = Registry(
    "margin loss",
    {
        "cosface": "vgbench.training.losses.margin:CosFace",
        "arcface": "vgbench.training.losses.margin:ArcFace",
        "sphereface": "vgbench.training.losses.margin:SphereFace",
    },
    positional=4,
)
# A class made as (parameter groups, its own keywords); learning rate and weight decay are `--lr` and `--weight_decay`.
OPTIMIZERS = Registry(
    "optimiser",
    {
        "adam": "torch.optim:Adam",
        "adamw": "torch.optim:AdamW",
        "sgd": "torch.optim:SGD",
        "asgd": "torch.optim:ASGD",
        "rmsprop": "torch.optim:RMSprop",
        "adagrad": "torch.optim:Adagrad",
    },
    positional=1,
    named=("lr", "weight_decay", "momentum", "nesterov"),
)
# A function of (options, epochs from the warm-up's end to the end, its own keywords) that returns a Shape.
SCHEDULES = Registry(
    "schedule",
    {
        "none": "vgbench.training.optimisation.schedule:constant",
        "step": "vgbench.training.optimisation.schedule:step",
        "multistep": "vgbench.training.optimisation.schedule:multistep",
        "cosine": "vgbench.training.optimisation.schedule:cosine",
        "linear": "vgbench.training.optimisation.schedule:linear",
        "plateau": "vgbench.training.optimisation.schedule:plateau",
        "onecycle": "vgbench.training.optimisation.schedule:onecycle",
        "exponential": "vgbench.training.optimisation.schedule:exponential",
    },
    positional=2,
)
