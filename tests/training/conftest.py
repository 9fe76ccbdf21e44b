import pytest
from cohorts import simulated


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Folder of the simulated study."""
    return simulated(tmp_path_factory)
