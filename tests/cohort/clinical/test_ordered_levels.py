"""The spellings of stage, TNM, grade and the like that are recognised as ordered, and those that are not."""

import pytest

from dmml.cohort.clinical.ordered_levels import find_ordering, rank_of

IN_ORDER = {
    "stage": [
        ["I", "II", "III", "IV"],
        ["Stage 0", "Stage I", "Stage II", "Stage III", "Stage IV"],
        ["Stage IA", "Stage I", "Stage IB", "Stage IIA", "Stage IIB", "Stage IIIC"],
        ["IA1", "IA2", "IA3", "IB", "IIA"],
        ["FIGO Stage IB1", "FIGO stage IIIC2", "FIGO Stage IVA"],
        ["stage 1", "stage 2b", "STAGE 3"],
        ["pStage I", "cStage II", "pathologic stage IIIA"],
        ["Stage Is", "Stage I", "I/II NOS", "Stage III"],
        ["IA", "IB", "IA-IIIA", "IIB", "Stage IIB or IIIA", "IIIA"],
    ],
    "T": [["T0", "Ta", "Tis", "T1mi", "T1a", "pT1b", "T1c", "pT2a", "ypT2", "cT3", "T4d"], ["T2", "T3 (m)"]],
    "N": [["N0 (i-)", "N0 (i+)", "N1mi", "pN1a", "N1", "N2b", "N3c"]],
    "M": [["M0", "cM0 (i+)", "M1a", "M1b"]],
    "grade": [
        ["GB", "G1", "G2", "G3", "G4"],
        ["Grade I", "Grade II", "Grade III"],
        ["WHO grade II", "WHO Grade III", "WHO grade IV"],
        ["ISUP 1", "ISUP 3", "ISUP 5"],
        ["Grade Group 1", "Grade Group 4"],
        ["G1 (well differentiated)", "G2: moderately differentiated", "G3"],
    ],
    "differentiation": [
        ["Well differentiated", "Moderately differentiated", "Poorly differentiated", "Undifferentiated"],
        ["well", "well to moderate", "moderate", "moderate-poor", "poor"],
    ],
    "degree": [["Low", "Intermediate", "High"], ["Low Grade", "High Grade"], ["low risk", "medium risk", "high risk"]],
    "severity": [["none", "mild", "moderate", "severe"]],
    "Gleason": [["3+3", "3+4", "4+3", "4+4", "4+5"], ["Gleason 6", "Gleason 7", "Gleason score 9"], ["3+4=7", "4+3=7"]],
    "performance status": [["ECOG 0", "ECOG 1", "ECOG 2"], ["PS 0", "PS 1"]],
    "staining": [["0", "1+", "2+", "3+"]],
    "range": [["<50", "50-59", "60–69", "≥70"], ["1-3", "4-9", "10+"]],
}


@pytest.mark.parametrize(
    ("ordering", "levels"), [(ordering, levels) for ordering, all_ in IN_ORDER.items() for levels in all_]
)
def test_levels_are_ordered_in_upper_and_lower_case(ordering, levels):
    for spelled in (levels, [level.upper() for level in levels], [f" {level.lower()} " for level in levels]):
        assert find_ordering(reversed(spelled)) == ordering
        ranks = [rank_of(ordering, level) for level in spelled]
        assert ranks == sorted(set(ranks)), spelled


@pytest.mark.parametrize("column", ["stage", "Tumor Stage", "pT", "ajcc_pathologic_t", "cN stage", "FIGO", "grade"])
def test_plain_numbers_are_levels_if_the_name_of_the_column_names_an_ordering(column):
    levels = ["0", "is", "1", "2a", "2b", "3"]
    assert find_ordering([*levels, "x"], column) == "numbered"
    ranks = [rank_of("numbered", level) for level in levels]
    assert ranks == sorted(set(ranks))


def test_a_column_may_mix_numbers_and_words_of_one_ordering():
    for column, levels in (
        ("stage", ["1", "Stage IIA", "3", "IV"]),
        ("pT", ["T1", "2a", "pT3"]),
        ("grade", ["1", "G2"]),
    ):
        assert find_ordering([*levels, "unknown"], column) == "numbered"
        ranks = [rank_of("numbered", level) for level in levels]
        assert ranks == sorted(set(ranks)), column


@pytest.mark.parametrize(
    ("ordering", "word"),
    [
        ("stage", "Stage X"), ("stage", "Not Reported"), ("stage", "[Not Available]"), ("T", "TX"), ("N", "pNX"),
        ("M", "MX"), ("grade", "GX"), ("degree", "unknown"),
    ],
)  # fmt: skip
def test_words_for_not_assessed_have_no_rank_and_do_not_affect_the_order(ordering, word):
    assert rank_of(ordering, word) != rank_of(ordering, word)  # NaN
    assert find_ordering([*IN_ORDER[ordering][0], word]) == ordering


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("stage", ["I", "II", "early"]),
        ("stage", ["II"]),
        ("stage", ["Stage X", "II"]),
        ("grade", ["G1", "G2", "GZ"]),
        ("sex", ["male", "female"]),
        ("status", ["positive", "negative"]),
        ("smoker", ["current", "former", "never"]),
        ("immune", ["C1", "C2", "C3", "C4"]),
        ("fab", ["M0", "M1", "M2"]),
        ("hcv", ["1a", "1b", "2", "3"]),
        ("kras", ["G12C", "G12D", "G13D"]),
        ("marker", ["CD3", "CD8"]),
        ("tp53", ["WT", "MUT"]),
        ("phase", ["G1", "S", "G2"]),
        ("molecular_subtype", ["I", "II", "III"]),
        ("sample_type", ["T1", "T2"]),
        ("site", ["1+", "2+"]),
        ("Batch", ["G1", "G2"]),
        ("arm", ["low", "high"]),
        ("tnm", ["T1N0M0", "T2N1M0"]),
        ("code", ["8140/3", "8260/3"]),
        ("pair", ["3-1", "2-1"]),
        ("race", ["white", "asian"]),
        ("x", []),
    ],
)
def test_other_levels_have_no_order(column, words):
    assert find_ordering(words, column) is None
