"""Which processes and devices take part, and what is said where they are described wrongly."""

import pytest

from icl_synth import devices

SLURM = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "6", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"num_processes": 4}, "belong together; give all three or none"),
        ({"coordinator": "node1:1234", "process_id": 0}, "belong together"),
        ({"coordinator": "node1", "num_processes": 2, "process_id": 0}, "must be HOST:PORT .* got 'node1'"),
        ({"coordinator": "node1:", "num_processes": 2, "process_id": 0}, "must be HOST:PORT"),
        ({"coordinator": ":1234", "num_processes": 2, "process_id": 0}, "must be HOST:PORT"),
        ({"coordinator": "node1:http", "num_processes": 2, "process_id": 0}, "must be HOST:PORT"),
        ({"coordinator": "node1:65536", "num_processes": 2, "process_id": 0}, "a port from 1 to 65535"),
        ({"coordinator": "node1:1234", "num_processes": 0, "process_id": 0}, "num_processes must be at least 1"),
        (
            {"coordinator": "node1:1234", "num_processes": 2, "process_id": 2},
            r"must lie in 0..1 for 2 processes, got 2",
        ),
        ({"coordinator": "node1:1234", "num_processes": 2, "process_id": -1}, "got -1"),
    ],
)
def test_processes_that_are_described_wrongly_are_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        devices.count_processes(devices.Devices(**choice))


@pytest.mark.parametrize(
    ("choice", "message"),
    [({"model_parallel": 0}, "model_parallel must be at least 1"), ({"num_processes": 4}, "belong together")],
)
def test_nothing_starts_where_devices_are_described_wrongly(choice, message):
    with pytest.raises(ValueError, match=message):
        devices.start(devices.Devices(**choice), 8)


def test_the_number_of_processes_is_given_or_slurms(monkeypatch):
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    assert devices.count_processes(devices.Devices()) == 1
    assert devices.count_processes(devices.Devices(distributed=True)) == 1
    assert devices.count_processes(devices.Devices(1, False, "node1:1234", 3, 2)) == 3
    assert devices.count_processes(devices.Devices(1, False, "[::1]:1234", 3, 2)) == 3
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert devices.count_processes(devices.Devices()) == 1
    assert devices.count_processes(devices.Devices(distributed=True)) == 6


@pytest.mark.parametrize("name", SLURM)
@pytest.mark.parametrize("value", ["4(x2)", "", "-1", "two"])
def test_a_slurm_variable_that_is_no_number_is_named(name, value, monkeypatch):
    for known in SLURM:
        monkeypatch.setenv(known, SLURM[known])
    monkeypatch.setenv(name, value)
    with pytest.raises(
        ValueError, match=f"{name} must be a whole number such as 8, got '{value}'".replace("(x2)", ".*")
    ):
        devices.count_processes(devices.Devices(distributed=True))


def test_a_missing_cluster_says_what_is_expected(monkeypatch):
    def nowhere(*_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(devices.jax.distributed, "initialize", nowhere)
    with pytest.raises(ValueError, match=r"cannot join .* Expected --coordinator HOST:PORT, .* SLURM_STEP_NODELIST"):
        devices.join(devices.Devices(distributed=True))
