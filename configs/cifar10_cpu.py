from configs import base


def get_config():
    config = base.get_config()
    config.epochs = 8.0
    config.model.name = "resnet10"
    config.model.num_filters = 16
    config.model.attention.patch_size = 4
    config.model.attention.width = 64
    config.schedule.init_value = 0.3
    config.schedule.end_value = 0.001
    config.schedule.variant = "normalised"
    config.schedule.warmup_epochs = 0.5
    config.schedule.init_decay_epochs = 2.5
    config.schedule.restart_interval_epochs = 5.0
    return config
