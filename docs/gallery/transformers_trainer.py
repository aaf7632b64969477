"""
A schedule in the Trainer of transformers
=========================================

The ``Trainer`` of Hugging Face takes an optimizer and a scheduler of PyTorch. ``to_torch`` makes
the scheduler. The outputs are missing on this page where transformers was not installed.
"""

# sphinx_gallery_thumbnail_path = 'schedules/trapezoid.png'

import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch
import transformers

import loganneal_jax

# %%
# The model is a BERT with one narrow layer, from random weights, so nothing is downloaded. It
# learns whether a sequence contains the token 7.

rng = np.random.default_rng(0)
tokens = rng.integers(1, 16, size=(512, 8))
examples = [
    {"input_ids": torch.tensor(row), "labels": torch.tensor(int(7 in row))} for row in tokens
]
model = transformers.BertForSequenceClassification(
    transformers.BertConfig(
        vocab_size=16,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
)

# %%
# Two epochs of 16 steps are 32 steps. The Trainer calls the scheduler after each of them.

schedule = loganneal_jax.trapezoid_schedule(
    peak_value=0.003, end_value=0.0, total_steps=32, warmup_steps=4, cooldown_steps=12
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, loganneal_jax.to_torch(schedule))
trainer = transformers.Trainer(
    model,
    args=transformers.TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=2,
        per_device_train_batch_size=32,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
    ),
    train_dataset=examples,
    optimizers=(optimizer, scheduler),
)
trainer.train()

# %%
# The Trainer logs the learning rate of each step.

log = [entry for entry in trainer.state.log_history if "learning_rate" in entry]
figure, (top, bottom) = plt.subplots(2, sharex=True)
top.plot([entry["step"] for entry in log], [entry["loss"] for entry in log])
top.set(ylabel="loss")
bottom.plot(
    [entry["step"] for entry in log],
    [entry["learning_rate"] for entry in log],
    color="C1",
)
bottom.set(ylabel="learning rate", xlabel="step", ylim=0)
plt.show()
