"""`vmkit exec NAME -- true` against ssh, cold and through a ControlMaster, to the same guest; alternating, in one run.

Usage: python -m bench.exec [ROUNDS]
"""

import sys

from bench.guestworld import NAME, alternate, bench_guest, timed

AGAINST_COLD, AGAINST_MASTER = 0.6, 4.0


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with bench_guest() as guest, guest.control_master() as shared:
        took = alternate(
            rounds,
            {
                "vmkit exec": lambda: timed([*guest.vmkit, "exec", NAME, "--", "true"]),
                "ssh, cold": lambda: timed(guest.ssh(command=["true"])),
                "ssh, ControlMaster": lambda: timed(guest.ssh(*shared, command=["true"])),
            },
        )
        print(f"medians of {rounds} ({guest.accelerator}):")
    for name, seconds in took.items():
        print(f"  {name}: {seconds * 1e3:.0f} ms")
    print(f"vmkit against cold ssh: ratio {took['vmkit exec'] / took['ssh, cold']:.2f} (at most {AGAINST_COLD})")
    ratio = took["vmkit exec"] / took["ssh, ControlMaster"]
    print(f"vmkit against ControlMaster: ratio {ratio:.2f} (at most {AGAINST_MASTER:g})")


if __name__ == "__main__":
    main()
