"""The log of a machine's network stays small and whole."""

import json
import stat
from pathlib import Path

import pytest

from vmkit.network.audit import REFUSALS_PER_S, AuditLog, Event, Kind


class Clock:
    now = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def refusal(host: str = "evil.example") -> Event:
    return Event(kind=Kind.REFUSED, host=host, port=443, reason="not in the policy")


def test_line_says_it_all_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "net.jsonl", clock=Clock())

    log(Event(kind=Kind.CLOSED, host="a.example", port=443, rule="*.example", bytes_up=1, bytes_down=2, seconds=0.5))
    log.close()

    assert lines(tmp_path / "net.jsonl") == [
        {
            "time": "2027-01-15T08:00:00.250+00:00", "kind": "closed", "allowed": True, "host": "a.example", "port": 443,
            "reason": "", "rule": "*.example", "bytes_up": 1, "bytes_down": 2, "seconds": 0.5,
        }
    ]  # fmt: skip
    assert stat.S_IMODE((tmp_path / "net.jsonl").stat().st_mode) == 0o600


def test_two_files_of_bounded_size_are_kept(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "net.jsonl", max_bytes=2000, clock=Clock())

    for number in range(100):
        log(Event(kind=Kind.OPENED, host=f"host{number}.example", port=443))
    log.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.jsonl", "net.jsonl.1"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    kept = lines(tmp_path / "net.jsonl.1") + lines(tmp_path / "net.jsonl")
    assert [entry["host"] for entry in kept] == [f"host{number}.example" for number in range(100 - len(kept), 100)]


def test_flood_of_refusals_is_counted_and_what_was_allowed_is_written(tmp_path: Path) -> None:
    clock = Clock()
    log = AuditLog(tmp_path / "net.jsonl", clock=clock)

    for _ in range(1000):
        log(refusal())
    log(Event(kind=Kind.OPENED, host="good.example", port=443))
    clock.now += 1
    log(refusal("later.example"))
    log.close()

    kinds = [entry["kind"] for entry in lines(tmp_path / "net.jsonl")]
    assert kinds == ["refused"] * REFUSALS_PER_S + ["opened", "unwritten", "refused"]
    assert lines(tmp_path / "net.jsonl")[-2]["refused"] == 1000 - REFUSALS_PER_S


def test_appends_to_what_is_there_and_follows_no_link(tmp_path: Path) -> None:
    for _ in range(2):
        log = AuditLog(tmp_path / "net.jsonl", clock=Clock())
        log(refusal())
        log.close()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "elsewhere")

    assert len(lines(tmp_path / "net.jsonl")) == 2
    with pytest.raises(OSError):
        AuditLog(tmp_path / "link.jsonl")


def test_a_log_goes_on_when_its_folder_is_out_of_reach(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    log = AuditLog(before / "net.jsonl", max_bytes=2000, clock=Clock())
    before.rename(after)  # as for a process that has given up the rights to open it

    for number in range(30):
        log(Event(kind=Kind.OPENED, host=f"host{number}.example", port=443))
    log.close()

    kept = lines(after / "net.jsonl.1") + lines(after / "net.jsonl")
    assert not before.exists()
    assert [entry["host"] for entry in kept] == [f"host{number}.example" for number in range(30 - len(kept), 30)]
    assert len(kept) > 10
