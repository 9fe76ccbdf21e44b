"""What a test keeps for the report: programs of every patient, and token maps of as many as memory allows."""

import torch
from batches import make_batch
from models import PROGRAMS, build

from dmml.callbacks.collection import CollectPredictions
from dmml.callbacks.patient_rows import patient_inputs
from dmml.experiment.program_table import program_rows


def collected(model, batch, **options):
    callback = CollectPredictions(**options)
    with torch.no_grad():
        outputs = model.predict_step(batch, 0)
    callback.on_test_start(None, model)
    callback.on_test_batch_end(None, model, outputs, batch, 0)
    return callback, outputs["output"]


def test_predicted_and_measured_programs_are_one_row_per_patient():
    batch = make_batch()
    batch.has_expression[0] = False
    model = build("teacher", programs=PROGRAMS)
    callback, output = collected(model, batch)
    rows = program_rows(callback.programs, patient_inputs(batch), model)
    assert [row["patient_id"] for row in rows] == batch.patient_id
    for i, row in enumerate(rows):
        for (m, s), scores in output.programs.items():
            for p, name in enumerate(PROGRAMS[s]):
                has_tiles = bool(batch.bags[m].mask[i].any())
                assert (f"{s}|{m}x|{name}" in row) == has_tiles
                if has_tiles:
                    assert abs(row[f"{s}|{m}x|{name}"] - float(scores[i, p])) < 1e-6
        assert ("tumor|measured|A" in row) == bool(batch.has_expression[i])
        if batch.has_expression[i]:
            mean = float((batch.expression["tumor"][i, 0] + batch.expression["tumor"][i, 1]) / 2)
            assert abs(row["tumor|measured|A"] - mean) < 1e-5


def test_a_model_without_programs_writes_none():
    batch = make_batch()
    model = build("student", genes={})
    callback, _ = collected(model, batch)
    assert program_rows(callback.programs, {}, model) == []


def test_token_maps_are_collected_as_long_as_memory_suffices():
    batch = make_batch()
    model = build("teacher")
    everyone, _ = collected(model, batch)
    with_tokens = [p for i, p in enumerate(batch.patient_id) if any(bag.mask[i].any() for bag in batch.bags.values())]
    assert [maps["patient_id"] for maps in everyone.attention] == with_tokens
    assert [maps["patient_id"] for maps in collected(model, batch, attention_mib=1e-6)[0].attention] == with_tokens[:1]
    none, _ = collected(model, batch, attention_mib=0)
    assert none.attention == []
    assert len(none.rows) == len(batch.patient_id)
