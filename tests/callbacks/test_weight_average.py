"""Averaging the weights leaves the model's buffers alone."""

import torch
from cohorts import quiet_trainer
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader

from dmml.callbacks.weight_average import EMA


class Counted(LightningModule):
    """A linear layer with a buffer that counts validations."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)
        self.register_buffer("validations", torch.zeros(()))

    def training_step(self, batch, batch_idx):
        return self.linear(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        return self.linear(batch).square().mean()

    def on_validation_epoch_end(self):
        self.validations += 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_after_a_fit_the_model_has_the_averaged_weights_and_its_own_latest_buffers(tmp_path):
    model, rows = Counted(), torch.randn(8, 2)
    average = EMA(decay=0.5)
    trainer = quiet_trainer(tmp_path, max_epochs=3, callbacks=[average])
    trainer.fit(model, DataLoader(rows, batch_size=4), DataLoader(rows, batch_size=8))
    assert model.validations == 3
    assert torch.equal(model.linear.weight, average._average_model.module.linear.weight)
