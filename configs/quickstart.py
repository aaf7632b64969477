from configs import base


def get_config():
    config = base.get_config()
    config.data.name = "digits"
    config.data.image_size = 16
    config.data.crop_padding = 1
    config.epochs = 15.0
    config.batch_size = 64
    config.eval_batch_size = 360
    config.model.name = "resnet10"
    config.model.num_filters = 16
    config.model.attention.patch_size = 4
    config.model.attention.width = 32
    config.schedule.variant = "normalised"
    config.schedule.init_decay_epochs = 5.0
    config.schedule.restart_interval_epochs = 5.0
    return config
