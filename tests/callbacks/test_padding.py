"""The logged fraction of padding is that counted patient by patient, and a large one is reported once."""

import logging

import pytest
from cohorts import data_of
from lightning.pytorch import Callback, Trainer

from dmml.callbacks.padding import Padding
from dmml.training.teacher import SubspaceTeacher


class Count(Callback):
    """Counts padding in a slow loop."""

    def __init__(self):
        self.real, self.positions, self.logged = 0, 0, []

    def on_train_epoch_start(self, trainer, module):
        self.real = self.positions = 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        for bag in batch.bags.values():
            longest = max(sum(row) for row in bag.mask.tolist())
            self.real += sum(sum(row) for row in bag.mask.tolist())
            self.positions += longest * len(batch.patient_id)

    def on_train_end(self, trainer, module):
        self.logged.append(float(trainer.callback_metrics["train/padding"]))


@pytest.mark.parametrize(("max_padding", "n_messages"), [(0.0, 1), (1.0, 0)])
def test_the_fraction_of_padding_is_logged_and_a_large_one_is_reported_once(
    cohort, caplog, monkeypatch, max_padding, n_messages
):
    monkeypatch.setattr("dmml.callbacks.padding.MAX_PADDING", max_padding)
    count = Count()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(
        max_epochs=2, callbacks=[Padding(), count], logger=False, accelerator="cpu", num_sanity_val_steps=0, **quiet
    )
    with caplog.at_level(logging.INFO, "dmml"):
        trainer.fit(SubspaceTeacher(width=16), data_of(cohort))
    assert count.logged == [pytest.approx(1 - count.real / count.positions, abs=1e-6)]
    assert 0 < count.logged[0] < 1
    assert sum("was padding" in message for message in caplog.messages) == n_messages
