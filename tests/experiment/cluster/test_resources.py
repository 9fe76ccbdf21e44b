"""Resources are spelled as SLURM spells them, and impossible ones are refused before SLURM is asked."""

import pytest

from dmml.errors import InputError
from dmml.experiment.cluster.launch import chunks
from dmml.experiment.cluster.resources import Resources, read_minutes, read_options


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("30:00", 30), ("0:30", 1), ("4:00:00", 240), ("2-0", 2880), ("1-12:30", 2190), ("0:00:01", 1)],
)
def test_a_time_limit_is_read_as_slurm_reads_it(text, minutes):
    assert read_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "4h", "-5", "0", "0:00:00", "1:2:3"])
def test_another_time_is_refused(text):
    with pytest.raises(InputError, match="--time"):
        read_minutes(text)


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"cpus": 0}, "--cpus: 0 is too small"),
        ({"gpus": -1}, "--gpus: -1 is too small"),
        ({"at_once": 0}, "--at-once: 0 is too small"),
        ({"memory": "16"}, "--mem: 16 is not an amount of memory"),
        ({"minutes": 2, "grace": 120}, "--grace: 120 seconds are as long as"),
        ({"minutes": None}, "--time: SLURM needs a time limit"),
        ({"cluster": "local", "partition": "gpu"}, "--partition: has no meaning with --cluster local"),
    ],
)
def test_impossible_resources_are_refused_by_their_option(values, option):
    with pytest.raises(InputError) as error:
        Resources(**({"cluster": "slurm", "minutes": 60} | values)).check()
    assert str(error.value).startswith(option)


def test_further_options_of_sbatch_have_a_name_and_a_value():
    assert read_options(["account=lab", "--constraint=a|b"]) == (("account", "lab"), ("constraint", "a|b"))
    with pytest.raises(InputError, match="--sbatch: account is not an option"):
        read_options(["account"])


@pytest.mark.parametrize(("n", "size"), [(1, 1001), (7, 3), (6, 3), (2500, 1001)])
def test_array_jobs_stay_below_the_largest_size_and_hold_every_part_once(n, size):
    names = [f"part_{i}" for i in range(n)]
    divided = list(chunks(names, size))
    assert [name for chunk in divided for name in chunk] == names
    assert max(map(len, divided)) <= size
    assert len(divided) == -(-n // size)
