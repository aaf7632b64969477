"""Tables 2 and 3 of Nakamura et al. 2021: --config=configs/nakamura2021.py:DATASET,MODEL,METHOD.

    python -m experiments.train --config=configs/nakamura2021.py:mnist,lenet4,sig+
    python -m experiments.train --config=configs/nakamura2021.py:cifar10,resnet18,trap

Hardware: any CPU for nn2, nn3, and lenet4; one GPU or TPU for the other models. Time and accuracy
are unknown: the 100 epochs have not been run here. docs/results/ has runs of 10 epochs.

Table 2 has the data sets mnist and fashion_mnist, and the models nn2, nn3, lenet4, and vgg9.
Table 3 has the data sets svhn_cropped, cifar10, and cifar100, and the models vgg19, resnet18,
resnet50, densenet100, and googlenet. The methods are 0.1, 0.01, 0.001 (constant), exp, str, sig,
rms, adam, rep, trap, str+, and sig+. Every cell trains for 100 epochs at batch size 128. The paper
has ten trials of each cell.

Our choices where the paper is silent:

- NN-2 and NN-3 have hidden layers of 500 units. LeNet-4 has 20 and 50 filters of 5x5 and a hidden
  layer of 500 units, as in Caffe's LeNet. VGG-9 has six convolutions and three linear layers.
  DenseConv is DenseNet-BC with 100 layers and growth rate 12. VGG has batch norm: without it, no
  VGG trains at a learning rate of 0.1.
- str and str+ fall by a factor of 10 after 50% and after 75% of the run, to 0.001 at the end.
- trap falls linearly to 0.001 in the last 10% of the run, which is as long as its warmup.
- Every method adds a weight decay of 0.0005 to the gradient. Only SGD has momentum.
- CIFAR images are cropped and flipped, because the accuracies in table 3 cannot be reached without
  augmentation. Images of the other data sets are not. Every channel is standardized.
"""

from ml_collections import ConfigDict

from configs import base, cells

SHALLOW = ("nn2", "nn3", "lenet4", "vgg9")
DEEP = ("vgg19", "resnet18", "resnet50", "densenet100", "googlenet")
MODELS = {
    "mnist": SHALLOW,
    "fashion_mnist": SHALLOW,
    "svhn_cropped": DEEP,
    "cifar10": DEEP,
    "cifar100": DEEP,
}
CONSTANT = ("0.1", "0.01", "0.001")
ADAPTIVE = {"rms": "rmsprop", "adam": "adam"}
SCHEDULED = ("exp", "str", "sig", "rep", "trap", "str+", "sig+")
METHODS = (*CONSTANT, "exp", "str", "sig", *ADAPTIVE, "rep", "trap", "str+", "sig+")


def get_config(cell: str = "") -> ConfigDict:
    dataset, model, method = cells.parse(cell, ("data set", "model", "method"), MODELS, METHODS)
    config = base.get_config()
    config.epochs = 100.0
    config.batch_size = 128
    config.data.name = dataset
    config.data.augment = dataset in ("cifar10", "cifar100")
    config.model.name = model
    config.model.batch_norm = model in ("vgg9", "vgg19")
    config.model.attention.name = "none"
    config.optimizer.name = ADAPTIVE.get(method, "sgd")
    if method == "rms":
        config.optimizer.momentum = 0.0
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = method if method in SCHEDULED else "constant"
    config.schedule.peak_value = 0.1
    config.schedule.end_value = 0.001
    if method in CONSTANT:
        config.schedule.peak_value = float(method)
    if method in ADAPTIVE:
        config.schedule.peak_value = 0.001 if model in SHALLOW else 0.0001
    if method in ("trap", "str+", "sig+"):
        # A reference, so that --config.epochs=10 also shortens the warmup, to 1 epoch.
        config.schedule.warmup_epochs = 0.1 * config.get_oneway_ref("epochs")
        config.schedule.warmup_init_value = 0.01
    if method == "trap":
        config.schedule.cooldown_fraction = 0.1
    return config
