"""The meaning of 1 in a column of events: the advice of every message is accepted and gives the right direction."""

from __future__ import annotations

import re

import pandas as pd
import pytest
import yaml

from dmml.__main__ import main
from dmml.cohort.clinical.event_terms import meaning_of_name
from dmml.cohort.clinical.table import read_clinical
from dmml.errors import InputError

TRUTH = [1, 0, 0, 1, 0] * 8
CENSORED = [1 - died for died in TRUTH]


def table(name: str, values, **more) -> str:
    patients = [f"p{i:02d}" for i in range(len(TRUTH))]
    days = [900 + 10 * i - 300 * died for i, died in enumerate(TRUTH)]
    pd.DataFrame({"patient_id": patients, "days": days, name: values} | more).to_csv("c.csv", index=False)
    return "c.csv"


def coded(no: str, yes: str) -> list[str]:
    return [yes if died else no for died in TRUTH]


# name of the column, its values, further columns; whoever died has 1 in TRUTH
COLUMNS = {
    "censored": ("censored", CENSORED, {}),
    "censorship": ("censorship", CENSORED, {}),
    "is_censored": ("is_censored", ["True" if c else "False" for c in CENSORED], {}),
    "censored Yes/No": ("Censored", ["Yes" if c else "No" for c in CENSORED], {}),
    "uncensored": ("uncensored", TRUTH, {}),
    "not_censored": ("not_censored", TRUTH, {}),
    "Not Censored": ("Not Censored", TRUTH, {}),
    "nonCensored": ("nonCensored", TRUTH, {}),
    "un-censored": ("un-censored", TRUTH, {}),
    "osuncensored": ("osuncensored", TRUTH, {}),
    "alive": ("alive", CENSORED, {}),
    "not_dead": ("not_dead", CENSORED, {}),
    "no_event": ("no_event", CENSORED, {}),
    "died": ("died", ["yes" if d else "no" for d in TRUTH], {}),
    "vital_status in words": ("vital_status", coded("Alive", "Dead"), {}),
    "words of censoring": ("status", coded("censored", "uncensored"), {}),
    "words of events": ("status", coded("Censored", "Event"), {}),
    "words under a name of censoring": ("censoring", coded("Alive", "Dead"), {}),
    "OS_STATUS": ("OS_STATUS", coded("0:LIVING", "1:DECEASED"), {}),
    "DSS_STATUS": ("DSS_STATUS", coded("0:ALIVE OR DEAD TUMOR FREE", "1:DEAD WITH TUMOR"), {}),
    "PFS_STATUS": ("PFS_STATUS", coded("0:CENSORED", "1:PROGRESSION"), {}),
    "DFS_STATUS": ("DFS_STATUS", coded("0:DiseaseFree", "1:Recurred/Progressed"), {}),
    "deaths of other causes": ("DSS", coded("0:DEAD OF OTHER CAUSES", "1:DEAD OF DISEASE"), {}),
    "codes of censoring": ("STATUS", coded("1:CENSORED", "0:DECEASED"), {}),
    "codes of the living": ("STATUS", coded("1:ALIVE", "0:DEAD"), {}),
    "codes against the name": ("CENSORED", coded("0:LIVING", "1:DECEASED"), {}),
    "vital status against the name": ("died", CENSORED, {"vital_status": coded("Alive", "Dead")}),
    "vital status with the name": ("os_event", TRUTH, {"OS_STATUS": coded("0:LIVING", "1:DECEASED")}),
    "survival_status": ("survival_status", TRUTH, {}),
    "failure": ("failure", TRUTH, {}),
    "lost_to_follow_up": ("lost_to_follow_up", CENSORED, {}),
    "lost to follow-up in words": ("outcome", coded("Lost to follow-up", "Dead"), {}),
    "event_free": ("event_free", CENSORED, {}),
    "Disease Free": ("Disease Free", CENSORED, {}),
    "metastasis_free": ("metastasis_free", CENSORED, {}),
    "distant metastasis in words": ("DMFS_STATUS", coded("no metastasis", "Metastasis"), {}),
    "codes behind their words in the name": ("dead=0, alive=1", CENSORED, {}),
    "codes before their words in the name": ("status_0dead_1alive", CENSORED, {}),
    "codes spelled out in the name": ("event (1=censored, 0=death)", CENSORED, {}),
}  # fmt: skip
ONE_WAY = set(COLUMNS) - {"words of censoring"}
"""Columns that are refused under one of the two keys; `censored` and `uncensored` mean the same under both"""


def advised(message: str, name: str) -> str:
    """The key under which a message says to write the column."""
    match = re.search(rf"write (event|censored): {re.escape(name)}(?= \(|$)", message.strip())
    assert match, f"no advice in: {message}"
    return match[1]


@pytest.mark.parametrize("case", COLUMNS)
def test_following_the_advice_gives_the_right_direction(case):
    name, values, more = COLUMNS[case]
    path = table(name, values, **more)

    def events(key):
        return read_clinical(path, outcome={"time": "days", key: name}).patients["event"].tolist()

    accepted = set()
    for key in ("event", "censored"):
        try:
            assert events(key) == TRUTH
        except InputError as error:
            advice = advised(str(error), name)
        else:
            accepted.add(key)
            continue
        assert advice != key
        assert events(advice) == TRUTH
    assert len(accepted) == (1 if case in ONE_WAY else 2)


@pytest.mark.parametrize(
    "case", ["uncensored", "DSS_STATUS", "codes against the name", "vital status against the name"]
)
def test_the_advice_works_as_typed_for_the_command_and_in_a_config(case, capsys):
    name, values, more = COLUMNS[case]
    path = table(name, values, **more)
    for key in ("event", "censored"):
        split = ["cohort", "split", "--clinical", path, "--time", "days", "--out", f"{key}.csv"]
        section = {"clinical": path, "features": path, "outcome": {"time": "days"}}
        if main([*split, f"--{key}", name]) == 2:
            key = advised(capsys.readouterr().err, name)
            assert main([*split, f"--{key}", name]) == 0
        rows = [row.split() for row in capsys.readouterr().out.splitlines() if re.match(r"\d ", row)]
        assert sum(int(row[2]) for row in rows) == sum(TRUTH)
        with open("c.yaml", "w") as file:
            yaml.safe_dump({"data": section | {"outcome": {"time": "days", key: name}}}, file)
        main(["doctor", "-c", "c.yaml"])
        out = capsys.readouterr().out
        assert f"{len(TRUTH)} patients, {sum(TRUTH)} events" in out
        assert "exchanged" not in out


@pytest.mark.parametrize("name", ["censored", "died", "uncensored", "alive"])
def test_a_misleading_name_can_be_overruled_where_the_message_says_so(name, capsys):
    wrong = "event" if meaning_of_name(name) is False else "censored"
    path = table(name, TRUTH if wrong == "event" else CENSORED)
    with pytest.raises(InputError, match=r"\(if 1 really means .*, add checked: true, or --checked to cohort split\)"):
        read_clinical(path, outcome={"time": "days", wrong: name})
    forced = read_clinical(path, outcome={"time": "days", wrong: name, "checked": True}).patients["event"]
    assert forced.tolist() == TRUTH
    split = ["cohort", "split", "--clinical", path, "--time", "days", f"--{wrong}", name, "--out", "s.csv"]
    assert main(split) == 2
    assert main([*split, "--checked"]) == 0


def test_words_that_contradict_the_key_are_refused_even_if_checked():
    path = table("OS_STATUS", coded("0:LIVING", "1:DECEASED"))
    with pytest.raises(
        InputError, match="contradicts the key censored, because 1 means that the event happened; write event"
    ):
        read_clinical(path, outcome={"time": "days", "censored": "OS_STATUS", "checked": True})


@pytest.mark.parametrize("name", ["status", "censored", "died", "uncensored"])
@pytest.mark.parametrize("key", ["event", "censored"])
@pytest.mark.parametrize("values", [("1", "2"), ("1:LIVING", "2:DECEASED"), ("Alive with disease", "Dead of disease")])
def test_other_codes_and_words_are_refused_with_advice_on_recoding(name, key, values):
    """A name that contradicts the key is refused first, so that the column is recoded for the key that will be accepted."""
    path = table(name, coded(*values))
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            read_clinical(path, outcome={"time": "days", key: name})
        if quoted := re.search(
            r"write 1 where (.*) and 0 where (it happened|the patient was censored)", str(caught.value)
        ):
            break
        key = advised(str(caught.value), name)
    one = {"it happened": 1, "the patient was censored": 0}[quoted[1]]
    path = table(name, [int(died == one) for died in TRUTH])
    assert read_clinical(path, outcome={"time": "days", key: name}).patients["event"].tolist() == TRUTH


@pytest.mark.parametrize(
    "name",
    [
        "status", "survival", "census", "license", "death_censored", "event_free_survival", "progression_free_status",
        "Disease Free (Status)", "dead_or_alive", "dead_1_alive_0", "delta", "DFS_STATUS", "consensus",
    ],
)  # fmt: skip
def test_a_name_without_a_clear_meaning_is_accepted_under_both_keys(name):
    path = table(name, TRUTH)
    assert meaning_of_name(name) is None
    assert read_clinical(path, outcome={"time": "days", "event": name}).patients["event"].tolist() == TRUTH
    assert read_clinical(path, outcome={"time": "days", "censored": name}).patients["event"].tolist() == CENSORED


def test_a_progression_before_death_does_not_contradict_the_vital_status():
    """Nine of ten progressed and most of them live: the vital status differs for most patients, which proves nothing."""
    progressed = [0 if i % 10 == 0 else 1 for i in range(40)]
    vital = ["Dead" if i % 10 == 1 else "Alive" for i in range(40)]
    path = table("pfs_event", progressed, vital_status=vital)
    read = read_clinical(path, outcome={"time": "days", "event": "pfs_event"})
    assert read.patients["event"].tolist() == progressed


def test_following_a_warning_about_exchanged_codes_gives_the_right_direction():
    from dmml.cohort.clinical.plausibility import outcome_doubts

    dying_first = pd.DataFrame({"patient_id": range(100, 200), "days": range(100, 2100, 20)})
    dying_first["os_event"] = [1 if i < 30 else 0 for i in range(100)]
    dying_first.assign(os_event=1 - dying_first["os_event"]).to_csv("c.csv", index=False)
    outcome = {"time": "days", "event": "os_event"}
    doubt = next(
        doubt for doubt in outcome_doubts(read_clinical("c.csv", outcome=outcome).patients) if "exchanged" in doubt
    )
    assert "under the other key of the outcome (event or censored), with checked: true" in doubt
    corrected = read_clinical("c.csv", outcome={"time": "days", "censored": "os_event", "checked": True}).patients
    assert corrected["event"].tolist() == dying_first["os_event"].tolist()
    assert outcome_doubts(corrected) == []


def test_disease_specific_survival_of_the_portals_is_read(shared_faults, capsys):
    path = str(shared_faults / "dss_status" / "data_clinical_patient.txt")
    raw = pd.read_csv(path, sep="\t", comment="#")
    deaths = int(raw["DSS_STATUS"].str.startswith("1:").sum())
    split = [
        "cohort",
        "split",
        "--clinical",
        path,
        "--patient-id",
        "PATIENT_ID",
        "--time",
        "DSS_MONTHS",
        "--unit",
        "months",
    ]
    assert main([*split, "--event", "DSS_STATUS", "--out", "s.csv"]) == 0
    out = capsys.readouterr().out
    assert sum(int(row.split()[2]) for row in out.splitlines() if re.match(r"\d ", row)) == deaths == 7
    assert main([*split, "--censored", "DSS_STATUS", "--out", "t.csv"]) == 2
    assert "write event: DSS_STATUS" in capsys.readouterr().err


def test_an_uncensored_column_is_an_event(shared_faults, capsys):
    path = str(shared_faults / "uncensored" / "unc.csv")
    for name in ("uncensored", "not_censored"):
        split = ["cohort", "split", "--clinical", path, "--time", "os_days", "--out", f"{name}.csv"]
        assert main([*split, "--event", name]) == 0
        out = capsys.readouterr().out
        assert sum(int(row.split()[2]) for row in out.splitlines() if re.match(r"\d ", row)) == 16
        assert main([*split, "--censored", name, "--overwrite"]) == 2
        assert f"write event: {name}" in capsys.readouterr().err
