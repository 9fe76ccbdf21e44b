"""The share of padding is that counted patient by patient, and is told once, where it is large."""

import pytest
from cohorts import data_of
from lightning.pytorch import Callback, Trainer

from dmml.callbacks.padding import Padding
from dmml.training.teacher import SubspaceTeacher


class Count(Callback):
    """By a slow loop."""

    def __init__(self):
        self.real, self.places, self.logged = 0, 0, []

    def on_train_epoch_start(self, trainer, module):
        self.real = self.places = 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        for bag in batch.bags.values():
            longest = max(sum(row) for row in bag.mask.tolist())
            self.real += sum(sum(row) for row in bag.mask.tolist())
            self.places += longest * len(batch.patient_id)

    def on_train_end(self, trainer, module):
        self.logged.append(float(trainer.callback_metrics["train/padding"]))


@pytest.mark.parametrize(("threshold", "told"), [(0.0, 1), (1.0, 0)])
def test_share_and_its_one_line(cohort, capsys, monkeypatch, threshold, told):
    monkeypatch.setattr("dmml.callbacks.padding.WORTH_TELLING", threshold)
    count = Count()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(
        max_epochs=2, callbacks=[Padding(), count], logger=False, accelerator="cpu", num_sanity_val_steps=0, **quiet
    )
    trainer.fit(SubspaceTeacher(width=16), data_of(cohort))
    assert count.logged == [pytest.approx(1 - count.real / count.places, abs=1e-6)]
    assert 0 < count.logged[0] < 1
    assert capsys.readouterr().out.count("was padding") == told
