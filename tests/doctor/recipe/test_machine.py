import torch

from fipo.doctor.recipe.machine import GIB, MIB, amount, cgroup_limit, machine, own_memory


def test_what_is_less_than_a_tenth_of_a_gib_is_given_in_mib():
    assert [amount(size) for size in (1.5 * GIB, 0.1 * GIB, 99 * MIB, 1)] == ["1.5 GiB", "0.1 GiB", "99 MiB", "0 MiB"]


def test_the_least_limit_of_a_control_group_and_those_above_it_counts(tmp_path):
    own = tmp_path / "docker" / "1234"
    own.mkdir(parents=True)
    assert cgroup_limit(tmp_path, "/docker/1234") is None
    (own / "memory.max").write_text("max\n")
    assert cgroup_limit(tmp_path, "/docker/1234") is None
    (tmp_path / "docker" / "memory.max").write_text(f"{4 * GIB}\n")
    assert cgroup_limit(tmp_path, "/docker/1234") == 4 * GIB
    (own / "memory.max").write_text(f"{2 * GIB}\n")
    assert cgroup_limit(tmp_path, "/docker/1234") == 2 * GIB


def test_version_1_of_control_groups_is_read_and_its_no_limit_is_none(tmp_path):
    file = tmp_path / "memory" / "memory.limit_in_bytes"
    file.parent.mkdir()
    file.write_text("9223372036854771712\n")
    assert cgroup_limit(tmp_path, "") is None
    file.write_text(f"{GIB}\n")
    assert cgroup_limit(tmp_path, "") == GIB


def test_a_machine_that_is_not_here_has_what_it_is_said_to_have():
    assert machine(torch.device("cuda"), 80.0).memory == 80 * GIB


def test_this_machine_has_more_memory_than_this_process_takes():
    assert 0 < own_memory() < machine(torch.device("cpu"), None).memory


def test_of_a_gpu_what_is_free_counts_and_what_this_process_has_of_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (20 * GIB, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: GIB)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA L4")
    found = machine(torch.device("cuda"), None)
    assert (found.memory, found.source) == (21 * GIB, "free on NVIDIA L4")
