"""A checkpoint records the patients that it and its teachers were fitted on, and finds them under other spellings."""

from dmml.training.checkpointing.seen_patients import hash_patients, patients_of_sources, patients_seen


def fitted(train, val=()):
    return {"patients": {"train": hash_patients(train), "val": hash_patients(val)}}


def test_training_and_inner_validation_patients_are_recorded():
    assert patients_seen(["a", "b", "c"], ["a", "b", "c"], fitted(["a"], ["c"])) == ["a", "c"]


def test_patients_of_a_teacher_are_recorded_by_its_student():
    student = fitted(["a"])
    student["patients"]["before"] = patients_of_sources(fitted(["t"], ["v"]))
    assert patients_seen(["t", "v", "new"], ["t", "v", "new"], student) == ["t", "v"]


def test_a_barcode_of_a_slide_identifies_the_patient():
    slides = ["TCGA-05-4249-01Z-00-DX1", "TCGA-05-4250-01Z-00-DX1"]
    assert patients_seen(slides, slides, fitted(["TCGA-05-4249"])) == slides[:1]
    assert patients_seen(["TCGA-05-4249"], ["TCGA-05-4249"], fitted(slides)) == ["TCGA-05-4249"]


def test_two_samples_of_a_patient_in_one_table_are_both_recognised():
    samples = ["TCGA-05-4249-01A", "TCGA-05-4249-06A", "TCGA-05-4250-01A"]
    assert patients_seen(samples, samples, fitted(["TCGA-05-4249"])) == samples[:2]
    assert patients_seen(["TCGA-05-4249"], ["TCGA-05-4249"], fitted(samples[:2])) == ["TCGA-05-4249"]


def test_ids_that_a_spreadsheet_has_changed_are_recognised():
    assert patients_seen(["7", "1040.0"], ["7", "1040.0"], fitted(["007", "1040"])) == ["7", "1040.0"]


def test_two_patients_of_one_table_with_similar_ids_are_distinguished():
    table = ["A1", "A01", "B2"]
    assert patients_seen(["A01"], table, fitted(["A1", "B2"])) == []
    assert patients_seen(["A1"], table, fitted(["A1", "B2"])) == ["A1"]
    assert patients_seen(["a1"], ["a1"], fitted(["A1", "A01"])) == []


def test_other_patients_are_not_recognised():
    others = ["P12-345", "P1-2", "12", "P120", "11-2", "AB-C", "TCGA-05-4250"]
    assert patients_seen(others, others, fitted(["P12", "P1", "1", "2", "1-12", "A-BC", "TCGA-05-4249"])) == []


def test_a_checkpoint_of_an_earlier_version_recognises_ids_as_they_were_spelt():
    old = fitted(["a", "B"])
    del old["patients"]["train"]["keys"]
    assert patients_seen(["a", "b"], ["a", "b"], old) == ["a"]
    assert patients_seen(["a"], ["a"], {}) == []
